
/*
 * What the libraries share that are preloaded into nginx.  Calls are caught
 * where an object keeps the addresses of the functions that it imports.  So
 * the caller is known, the sanitizers' malloc() is left as it is, and what
 * nginx itself exports can be caught, which comes before what is preloaded
 * wherever a symbol is looked up.
 */


#ifndef _HOOK_H_INCLUDED_
#define _HOOK_H_INCLUDED_


#include <dlfcn.h>
#include <link.h>


typedef struct {
    const char  *object;     /* a part of its name, "" is nginx */
    const char  *symbol;
    void        *function;
    void       **real;
} hook_t;


/* what a library catches, up to one without a symbol */

extern hook_t  hooks[];


static void
hook_patch(const char *object, const char *symbol, void **slot)
{
    size_t      size;
    hook_t     *hook;
    uintptr_t   page;

    for (hook = hooks; hook->symbol; hook++) {

        if (strcmp(hook->symbol, symbol) != 0
            || (*hook->object ? strstr(object, hook->object) == NULL
                              : *object != '\0')
            || *slot == hook->function)
        {
            continue;
        }

        if (*hook->real == NULL) {
            *hook->real = dlsym(RTLD_DEFAULT, symbol);
        }

        /* what is not bound lazily is read only */

        size = getpagesize();
        page = (uintptr_t) slot & ~(size - 1);

        if (mprotect((void *) page, size, PROT_READ|PROT_WRITE) == -1) {
            abort();
        }

        *slot = hook->function;
    }
}


static int
hook_object(struct dl_phdr_info *info, size_t size, void *data)
{
    size_t             i, j, n, sizes[2];
    const char        *strings;
    ElfW(Dyn)         *dyn;
    ElfW(Sym)         *symbols;
    const ElfW(Rela)  *tables[2];

    dyn = NULL;
    strings = NULL;
    symbols = NULL;
    sizes[0] = sizes[1] = 0;
    tables[0] = tables[1] = NULL;

    for (i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            dyn = (ElfW(Dyn) *) (info->dlpi_addr
                                 + info->dlpi_phdr[i].p_vaddr);
        }
    }

    for ( /* void */ ; dyn && dyn->d_tag != DT_NULL; dyn++) {

        switch (dyn->d_tag) {

        case DT_STRTAB:
            strings = (const char *) dyn->d_un.d_ptr;
            break;

        case DT_SYMTAB:
            symbols = (ElfW(Sym) *) dyn->d_un.d_ptr;
            break;

        case DT_RELA:
            tables[0] = (const ElfW(Rela) *) dyn->d_un.d_ptr;
            break;

        case DT_RELASZ:
            sizes[0] = dyn->d_un.d_val;
            break;

        case DT_JMPREL:
            tables[1] = (const ElfW(Rela) *) dyn->d_un.d_ptr;
            break;

        case DT_PLTRELSZ:
            sizes[1] = dyn->d_un.d_val;
        }
    }

    /* the kernel's own object has addresses that are not relocated */

    if (strings == NULL || symbols == NULL
        || (ElfW(Addr)) strings < info->dlpi_addr)
    {
        return 0;
    }

    for (i = 0; i < 2; i++) {
        for (j = 0; tables[i] && j < sizes[i] / sizeof(ElfW(Rela)); j++) {

            n = ELF64_R_SYM(tables[i][j].r_info);

            if (n) {
                hook_patch(info->dlpi_name, strings + symbols[n].st_name,
                           (void **) (info->dlpi_addr
                                      + tables[i][j].r_offset));
            }
        }
    }

    return 0;
}


/* nginx loads the module, and what that needs, with it */

void *
dlopen(const char *file, int mode)
{
    void         *handle;
    static void *(*real)(const char *file, int mode);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "dlopen");
    }

    handle = real(file, mode);

    dl_iterate_phdr(hook_object, NULL);

    return handle;
}


/*
 * Maps the file that an environment variable names, which the test writes to,
 * and begins to catch; NULL where there is no such variable.
 */

static ngx_inline void *
hook_start(const char *variable, size_t size)
{
    int          fd;
    void        *p;
    const char  *file;

    file = getenv(variable);
    if (file == NULL) {
        return NULL;
    }

    fd = open(file, O_RDWR);
    if (fd == -1) {
        abort();
    }

    p = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        abort();
    }

    close(fd);

    dl_iterate_phdr(hook_object, NULL);

    return p;
}


#endif /* _HOOK_H_INCLUDED_ */
