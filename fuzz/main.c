
/* Runs a fuzz target once with each of the files that are named. */


#include "fuzz.h"


static void run(const char *name);


int
main(int argc, char **argv)
{
    int  i;

    for (i = 1; i < argc; i++) {
        run(argv[i]);
    }

    printf("%d inputs\n", argc - 1);

    return 0;
}


static void
run(const char *name)
{
    FILE    *file;
    size_t   n;
    u_char  *data, *copy;

    file = fopen(name, "rb");

    if (file == NULL) {
        perror(name);
        exit(1);
    }

    data = fuzz_alloc(1024 * 1024);
    n = fread(data, 1, 1024 * 1024, file);

    (void) fclose(file);

    copy = fuzz_alloc(n);
    ngx_memcpy(copy, data, n);
    free(data);

    (void) LLVMFuzzerTestOneInput(copy, n);

    free(copy);
}
