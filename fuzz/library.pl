#!/usr/bin/perl

# Copies nginx's program to a library, so that the fuzz targets run the very
# parsers of the nginx that is installed, whose sources no package of Debian's
# has: a program exports its functions to its modules, and nothing but the
# flag DF_1_PIE keeps it from being linked.

use warnings;
use strict;

use constant {
    PT_DYNAMIC => 2,
    DT_FLAGS_1 => 0x6ffffffb,
    DF_1_PIE   => 0x08000000,
};

die "usage: $0 PROGRAM LIBRARY\n" if @ARGV != 2;

my ($program, $library) = @ARGV;

open my $in, '<:raw', $program or die "$program: $!\n";
my $elf = do { local $/; <$in> };

die "$program: not 64-bit, little endian and position-independent\n"
    if substr($elf, 0, 6) ne "\x7fELF\x02\x01"
    || unpack('x16 v', $elf) != 3;

my ($table, $size, $count) = unpack 'x32 Q< x14 v v', $elf;

for my $i (0 .. $count - 1) {
    my ($type, $offset, $len) = unpack 'V x4 Q< x16 Q<',
        substr $elf, $table + $i * $size, $size;
    next if $type != PT_DYNAMIC;

    for (my $at = $offset; $at < $offset + $len; $at += 16) {
        my ($tag, $value) = unpack 'Q<2', substr $elf, $at, 16;
        substr($elf, $at + 8, 8) = pack 'Q<', $value & ~DF_1_PIE
            if $tag == DT_FLAGS_1;
    }
}

# What runs with the old one keeps it.
open my $out, '>:raw', "$library.new" or die "$library.new: $!\n";
print $out $elf or die "$library.new: $!\n";
close $out or die "$library.new: $!\n";
rename "$library.new", $library or die "$library: $!\n";
