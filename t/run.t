# "make run": each line that t/run prints does what it promises, with the
# stand-in API and with credentials from the environment; the login page comes
# first of all; several can run at once; Ctrl-C and SIGTERM leave nothing
# behind.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use IO::Socket::INET ();
use Test::More;

my @CREDENTIALS = qw(APPLICATION_ID AUTH_KEY AUTH_SECRET LOGIN PASSWORD API);
delete @ENV{map { "QUICKBLOX_$_" } @CREDENTIALS};

my $t = Gateway->new;
my $api = $t->api(tls => 1);

my %credentials = (
    QUICKBLOX_APPLICATION_ID => 92,
    QUICKBLOX_AUTH_KEY => 'wJHd4cQSxpQGWx5',
    QUICKBLOX_AUTH_SECRET => 'jyqGNhbGxkvBTgd',
    QUICKBLOX_LOGIN => 'bob',
    QUICKBLOX_PASSWORD => 'Canary-Bob-Pw',
    QUICKBLOX_API => 'https://localhost:' . $api->tls_port,
    SSL_CERT_FILE => $t->ca,
    CURL_CA_BUNDLE => $t->ca,
);

my @run = (start(), start(%credentials));

{
    my ($demo, $real) = @run;

    like $_->{text}, qr/^# Ctrl-C ends it\.$/m, "$_->{name}: is ready"
        for @run;
    isnt $demo->{gateway}, $real->{gateway}, 'two at once: other ports';

    login_page($_) for @run;

    like $demo->{text},
        qr/^# log in there as +bob with the password Canary-Bob-Pw$/m,
        'stand-in: whom to log in as';
    like $real->{text}, qr/^# log in there as +a user of your application/m,
        'real API: whom to log in as';
    isnt cookie_key($demo), cookie_key($real), 'a cookie_key for each run';

    my $examples = try_out($demo);

    for ('Logged in',
        qw(Obtained Validated Expired Replayed Refused Down))
    {
        like $demo->{text}, qr/^# $_: /m, "stand-in: shows \"$_\"";
    }

    is $examples, 18, 'stand-in: promises kept';
    is try_out($real, %credentials), 13, 'real API: promises kept';

    is $api->calls('POST /session.json'), 5,
        'real API: two logins, an application session, two of the page';
    is $api->calls('DELETE /login.json'), 1, 'real API: a logout';
    is $api->calls('DELETE /session.json'), 1, 'real API: one ended';

    for my $secret (qw(jyqGNhbGxkvBTgd Canary-Bob-Pw)) {
        is index($real->{text}, $secret), -1, 'real API: not printed';
        is index(slurp("$real->{dir}/nginx/nginx.conf"), $secret), -1,
            'real API: in no file';
    }
}

# As a terminal sends it, and to the program alone.
ended($run[0], INT => -$run[0]{pid});
ended($run[1], TERM => $run[1]{pid});

{
    my $run = start(%credentials, QUICKBLOX_PASSWORD => '');
    waitpid $run->{pid}, 0;
    is $? >> 8, 1, 'a credential is missing: exit code';
    like $run->{text}, qr/^Set QUICKBLOX_PASSWORD, too, /, 'message';

    $run = start(QUICKBLOX_MODULE => '/nonexistent.so');
    waitpid $run->{pid}, 0;
    is $? >> 8, 1, 'no module: exit code';
    like $run->{text}, qr/nonexistent\.so/, 'message';
    unlike $run->{text}, qr/Ctrl-C/, 'nothing promised';
}

$t->done;


# Starts t/run in a process group of its own; reads what it prints.
sub start (%env) {
    pipe my $read, my $write or die "pipe: $!";

    my $pid = fork // die "fork: $!";

    if (!$pid) {
        setpgrp;
        @ENV{keys %env} = values %env;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>&', $write;
        open STDERR, '>&', $write;
        exec $^X, 't/run' or die;
    }

    close $write;

    my $run = {
        pid => $pid,
        name => $env{QUICKBLOX_API} ? 'real API' : 'stand-in',
        output => $read,
        text => '',
    };

    while (my $line = <$read>) {
        $run->{text} .= $line;
        last if $line =~ /Ctrl-C/;
    }

    ($run->{gateway}) = $run->{text} =~ m{^# nginx \D+(http://\S+)}m;
    ($run->{dir}) = $run->{text} =~ m{logs\s+(/\S+)/nginx$}m;

    return $run;
}

# What a browser gets at the first address that is printed.
sub login_page ($run) {
    my ($page) = $run->{text}
        =~ m{\A# the login page +(https://127\.0\.0\.1:\d+/)\n};
    my ($certificate) = $run->{text} =~ /--cacert (\S+)/;

    ok $page, "$run->{name}: the login page comes first";

    my @types = map {
        my $got = $t->curl('-w', "\n%{http_code} %{content_type}", '--cacert',
            $certificate, "$page$_");
        (split /\n/, $got->{stdout})[-1];
    } '', qw(style.css app.js nginx.conf);

    is_deeply \@types, ['200 text/html; charset=utf-8', '200 text/css',
        '200 text/javascript', '404 text/html; charset=utf-8'],
        "$run->{name}: the login page has its parts, and no other";

    return;
}

sub cookie_key ($run) {
    my $file = "$run->{dir}/cookie_key";
    my $key = slurp($file);

    like $key, qr/^[0-9a-f]{64}$/, "$run->{name}: a cookie_key is made";
    is +(stat $file)[2] & 0777, 0600, "$run->{name}: and is its owner's";
    is index(slurp("$run->{dir}/nginx/nginx.conf"), $key =~ s/\n//r), -1,
        "$run->{name}: and in no other file";

    return $key;
}

# Types each line into one shell; the number of those that promise something.
sub try_out ($run, %env) {
    my @examples = $run->{text} =~ /^((?:curl|[A-Z]+=).+\n(?:#   .+)?)/mg;
    my ($count, $script) = (0, '');
    my $mark = '--- end of line ---';

    $script .= /^(.+)/ ? "$1 2>/dev/null\necho; echo '$mark'\n" : ''
        for @examples;

    local @ENV{keys %env} = values %env;
    my $file = $t->write("lines-$run->{pid}", $script);
    my @answers = split /^$mark\n/m, qx(sh $file);

    is scalar(@answers), scalar(@examples), "$run->{name}: all lines ran";

    for my $example (@examples) {
        my ($line, $promise) = split /\n#   /, $example;
        my $answer = shift(@answers) =~ s/\r//gr;
        my $name = "$run->{name}: $line";

        next if !defined $promise;
        $count++;

        # With --retry there are several.
        $answer =~ s{\A.*(?=HTTP/1\.1 )}{}s;

        my ($status, @parts) = split /, /, $promise =~ s/ \(later \w+\)//gr;
        my @kept = $answer =~ m{\AHTTP/1\.1 (\d+) } ? $1 : '';

        for (@parts) {
            my $part = /^"[^"]+"$/ ? $_ =~ s/^"|"$//gr : $_;
            my $found = $part eq $_ && !/^"/ ? $answer =~ /^\Q$part\E$/m
                : index($answer, $part) >= 0;
            push @kept, $_ if $found;
        }

        is_deeply \@kept, [$status, @parts], $name or diag $answer;
    }

    return $count;
}

# What the program has started, by their process ids and starting times.
sub descendants ($pid) {
    my (%of, @found);

    for my $file (glob '/proc/[0-9]*/stat') {
        my ($child, $parent, $rest)
            = slurp($file) =~ /^(\d+) \(.*\) \S (\d+) (.*)/s or next;
        push @{$of{$parent}}, [$child, (split ' ', $rest)[17]];
    }

    my @parents = $pid;

    while (defined(my $parent = shift @parents)) {
        push @found, @{$of{$parent} // []};
        push @parents, map { $_->[0] } @{$of{$parent} // []};
    }

    return @found;
}

sub ended ($run, $signal, $to) {
    my @children = descendants($run->{pid});
    my $name = "$run->{name}, SIG$signal";

    # nginx, its worker, the backend; the stand-in API.
    is scalar(@children), $run->{name} eq 'stand-in' ? 4 : 3,
        "$name: all are running";
    ok -d $run->{dir}, "$name: the directory is there";

    kill $signal => $to;
    my $said = do { local $/; readline $run->{output} } // '';
    waitpid $run->{pid}, 0;

    is $?, 0, "$name: exit code";
    is $said, '', "$name: nothing more is said";

    my @left = grep {
        my ($pid, $started) = @$_;
        my ($rest) = slurp("/proc/$pid/stat") =~ /^\d+ \(.*\) \S \d+ (.*)/s;
        defined $rest && (split ' ', $rest)[17] eq $started;
    } @children;

    is_deeply \@left, [], "$name: no process is left";
    ok !-e $run->{dir}, "$name: no directory is left";

    my ($port) = $run->{gateway} =~ /:(\d+)/;
    ok !IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port),
        "$name: nothing listens";

    return;
}

sub slurp ($file) {
    open my $handle, '<', $file or return '';
    local $/;

    return readline($handle) // '';
}
