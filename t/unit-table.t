#!/usr/bin/perl

# The table of sessions: the unit test in C speaks TAP itself.

use warnings;
use strict;

use FindBin;

my $test = "$FindBin::Bin/../build/unit/table_test";

exec { $test } $test or die "cannot run $test: $!\n";
