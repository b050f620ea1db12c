#!/usr/bin/perl

# Every fuzz target, built without a fuzzer, reads the seeds that are kept for
# it, and what once led it to new code: "make fuzz" looks for more.

use warnings;
use strict;

use FindBin;
use Test::More;

my $root = "$FindBin::Bin/..";
my $units = $ENV{QUICKBLOX_UNITS} // "$root/build/unit";

my @targets = grep { $_ ne 'main' }
    map { m{/(\w+)\.c$} } glob "$root/fuzz/*.c";
my @corpora = map { m{/(\w+)$} } glob "$root/fuzz/corpus/*";

cmp_ok scalar(@targets), '>=', 5, 'there are targets';
is_deeply [sort @corpora], [sort @targets], 'each has a corpus';

for my $target (@targets) {
    my @seeds = glob "$root/fuzz/corpus/$target/*";

    cmp_ok scalar(@seeds), '>=', 10, "$target: there are seeds";
    cmp_ok scalar(@seeds), '<=', 60, "$target: but not too many";

    my $said = run(split(' ', $ENV{QUICKBLOX_VALGRIND} // ''),
        "$units/${target}_fuzz", @seeds);
    is $said, @seeds . " inputs\n", "$target: all is as it should be";
}

done_testing;


# What a program writes, and how it ended where that is not well.
sub run {
    my @command = @_;

    my $pid = open(my $out, '-|') // die "fork: $!\n";

    if (!$pid) {
        open STDERR, '>&', \*STDOUT or die "dup: $!\n";
        exec {$command[0]} @command or die "$command[0]: $!\n";
    }

    my $said = do { local $/; <$out> } // '';

    return close $out ? $said : "${said}ended with status $?\n";
}
