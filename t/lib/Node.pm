package Node;

# Scripts that a test runs in Node; those that use t/browser/browser.js drive
# Debian's Chromium.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';

use Mojo::JSON qw(decode_json encode_json);
use POSIX ();
use Test::More ();

# The first that is installed.
sub program (@names) {
    for my $name (@names) {
        -x "$_/$name" and return "$_/$name" for split /:/, $ENV{PATH};
    }

    die "$names[0] is not installed, \"make test\" does that\n";
}

# Starts a command in a process group of its own; returns its id.  Its
# standard input ends when this program does.
sub start ($log, @command) {
    pipe my $input, my $held or die "pipe: $!";

    my $pid = fork // die "fork: $!";

    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(PIPE INT TERM);
        setpgrp;
        open STDIN, '<&', $input;
        open STDOUT, '>', $log;
        open STDERR, '>&', \*STDOUT;
        close $held;
        exec { $command[0] } @command or POSIX::_exit(127);
    }

    push @{$Node::held{$pid}}, $held;

    return $pid;
}

# Ends it, unless it ends by itself in that time: true if it did so well.
sub finish ($t, $pid, $timeout) {
    my $status;
    my $gone = sub {
        waitpid($pid, POSIX::WNOHANG()) == $pid or return;
        $status = $?;
        return 1;
    };

    # A browser reaps what it has started, and so does its driver.
    if (!eval { $t->wait_for($gone, 'end', $timeout) }) {
        kill TERM => $pid;
        eval { $t->wait_for($gone, 'end', 5) };
    }

    kill KILL => -$pid;
    waitpid $pid, 0;
    delete $Node::held{$pid};

    return defined $status && $status == 0;
}

# What a script has seen: it reads one JSON file and writes another.
sub seen ($t, $script, $conf, $timeout = 60) {
    my $name = $script =~ s/.*\/|\.js$//gr;
    my ($log, $result) = map { $t->dir . "/$name.$_" } 'log', 'result';
    my $input = $t->write("$name.conf", encode_json($conf));

    # Nothing of whoever runs the test, and nothing left there.
    local @ENV{qw(HOME TMPDIR)} = ($t->dir) x 2;

    my $pid = start($log, program('node', 'nodejs'), $script, $input, $result);

    return decode_json($t->read("$name.result"))
        if finish($t, $pid, $timeout);

    Test::More::diag($t->read("$name.log"));

    return;
}

1;
