# What a package and an installation are made of agrees with the source: the
# version is one, the manual page has each directive and variable, "make help"
# has each target, and "make install" puts the module where nginx loads it.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Docs;
use Gateway;
use Test::More;

my $t = Gateway->new;
my $source = join '', map { Docs::slurp($_) }
    glob 'ngx_http_quickblox_module/*.[ch]';


# Version

my ($version) = $source =~ /MODULE_VERSION\s+"(\d+\.\d+\.\d+)"/;

my ($changes) = Docs::slurp('CHANGES')
    =~ /\A\nChanges with ngx_http_quickblox_module (\S+)\n/;
is $changes, $version, 'CHANGES begins with the version of the source';

my ($debian) = Docs::slurp('debian/changelog') =~ /\A\S+ \((.*)-\d+\) /;
is $debian, $version, "so does the package's changelog";


# Manual page

my $page = Docs::slurp('man/ngx_http_quickblox_module.7');

my @directives = map { /^### (\w+)$/mg } Docs::slurp('docs/directives.md');
my @variables = map { /^### (\$\w+)$/mg } Docs::slurp('docs/variables.md');

is_deeply [$page =~ /^\.TP\n\.B (\S+)\n/mg], [@directives, @variables],
    'the manual page has all that the documentation has, in its order';

is_deeply [grep { length > 79 } split /\n/, $page], [], 'in short lines';


# Makefile

my $make = Docs::slurp('Makefile');
my ($phony) = $make =~ /^\.PHONY: ((?:.*\\\n)*.*)/m;
my @targets = grep { !/^(?:\\|all|fuzz-targets)$/ } split ' ', $phony;
my $help = qx(make -s help);

is_deeply [grep { $help !~ /\bmake $_\b/ } @targets], [],
    'make help tells of all targets';

SKIP: {
    my $module = $t->module // skip 'the module is inside of nginx', 3;
    my $dir = $t->dir . '/installed';

    # as it is: this is no place to build it
    is system('make', '-s', '-o', $module, 'install', "MODULE=$module",
        'NGINX=' . Gateway::Nginx::binary(), "DESTDIR=$dir"), 0,
        'make install';

    my ($file) = split /\n/, qx(find $dir -name '*.so');
    my ($ok, $said) = $t->test_config('', module => $file);
    ok $ok, 'installs a module that nginx loads' or diag $said;

    ok -s "$dir/usr/local/share/man/man7/ngx_http_quickblox_module.7",
        'and its manual page';
}

$t->done;
