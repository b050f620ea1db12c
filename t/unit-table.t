#!/usr/bin/perl

# The table of sessions: the unit test in C speaks TAP itself.

use warnings;
use strict;

use FindBin;

my $units = $ENV{QUICKBLOX_UNITS} // "$FindBin::Bin/../build/unit";
my $test = "$units/table_test";

exec { $test } $test or die "cannot run $test: $!\n";
