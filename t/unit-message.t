#!/usr/bin/perl

# The unit tests of ngx_http_quickblox_message.c: the TAP is the program's.

use warnings;
use strict;

use FindBin;

my $test = "$FindBin::Bin/../build/unit/message_test";

exec { $test } $test or die "$test: $!\n";
