#!/usr/bin/perl

# The zone against a model, with kills: the test in C speaks TAP itself.

use warnings;
use strict;

use FindBin;

my $units = $ENV{QUICKBLOX_UNITS} // "$FindBin::Bin/../build/unit";
my $test = "$units/model_test";

exec { $test } $test or die "cannot run $test: $!\n";
