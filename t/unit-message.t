#!/usr/bin/perl

# The unit tests of ngx_http_quickblox_message.c: the TAP is the program's.

use warnings;
use strict;

use FindBin;

my $units = $ENV{QUICKBLOX_UNITS} // "$FindBin::Bin/../build/unit";
my $test = "$units/message_test";

my @command = (split(' ', $ENV{QUICKBLOX_VALGRIND} // ''), $test);

exec { $command[0] } @command or die "$command[0]: $!\n";
