# What fails again and again is told of once in the error log, not for each
# request (T65): by a line that says what has happened, to which application,
# what the API has answered, and what the gateway does now.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Test::More;

my $REQUESTS = 100;

my $library = ($ENV{QUICKBLOX_UNITS} // 'build/unit') . '/fail.so';

my $t = Gateway->new(allow => [qr/socket\(\) failed \(24: /]);
my $api = $t->api;
my $backend = $t->backend;

sub nginx ($applications, %opt) {
    return $t->nginx((join '', map { <<"END" } @$applications)
quickblox_application $_ {
    api %%API%%;
    application_id 92;
    zone $_ 256k;
}
END
        . <<'END' . (join '', map { <<"END" } @$applications) . '}', %opt);
server {
    listen 127.0.0.1:%%PORT_0%%;
END
    location /$_/ {
        quickblox $_;
        proxy_pass %%BACKEND%%;
    }
END
}

sub session { return $api->session(user_id => 5) }

# Each has a token of its own: how many had which status.
sub requests ($application, $client = $t) {
    my %status;

    $status{$client->request(path => "/$application/x", token => session(),
        keepalive => 1)->status}++ for 1 .. $REQUESTS;

    return \%status;
}

# The log has these lines of an application at warn and above, and no other;
# returns how many it has at info.
sub told ($nginx, $application, $name, %expected) {
    my %lines;

    for (split /\n/, $nginx->error_log) {
        push @{$lines{$1}}, $_ if m{
            \[((?!debug)\w+)\] [^"]*
            [ ]quickblox[ ](?:application[ ])?"$application":[ ]
        }x;
    }

    note map { "$_\n" } grep { !/\[info\]/ } map { @$_ } values %lines;

    my $info = @{delete $lines{info} // []};
    is_deeply {map { $_ => scalar @{$lines{$_}} } keys %lines},
        {map { $_ => scalar @{$expected{$_}} } keys %expected},
        "$name: once in the log";

    for my $level (sort keys %expected) {
        like $lines{$level}[$_], $expected{$level}[$_], "$name: what it is"
            for 0 .. $#{$expected{$level}};
    }

    return $info;
}

my $nginx = nginx([qw(down odd short)]);

sub failed ($application, $why, $wait) {
    my $host = '127.0.0.1:' . $api->port;

    return qr{\ quickblox\ application\ "$application":\ API\ call
        \ "GET\ /session\.json"\ failed,\ status\ $why,\ source:\ client,
        \ host:\ "\Q$host\E",\ requests\ that\ need\ it\ get\ 503,
        \ next\ call\ in\ $wait\ s$}x;
}


# An outage, and its end

$api->fail(status => 500);
is_deeply requests('down'), {503 => $REQUESTS}, 'an outage: all are refused';

my @lines = failed('down', qr/500: unexpected status/, 1);
told($nginx, 'down', 'an outage', error => \@lines);

$api->heal;
$t->wait_for(sub {
    return $t->get('/down/x', token => session())->status == 200;
}, 'end of the outage');
is_deeply requests('down'), {200 => $REQUESTS}, 'its end: all are served';

push @lines, qr/"down": the API answers again, source: client, requests are/;
told($nginx, 'down', 'its end', error => \@lines);


# What is answered to each is wrong, and backs nobody off

$api->fail(status => 404);
$api->reset_calls;
is_deeply requests('odd'), {503 => $REQUESTS}, 'odd answers: all are refused';
is $api->calls, $REQUESTS, 'odd answers: of as many calls';
told($nginx, 'odd', 'odd answers',
    error => [failed('odd', qr/404: is "api_host" right\?/, 0)]);
$api->heal;


# No descriptor is left for a connection to the API

my $client = $t->client;
is $client->get('/short/x', token => session())->status, 200,
    'no descriptors: before';

my @limit = ('prlimit', '--pid', $nginx->workers);
system @limit, '--nofile=1:';
is_deeply requests('short', $client), {503 => $REQUESTS},
    'no descriptors: all are refused';
system @limit, '--nofile=1024:';

my $info = told($nginx, 'short', 'no descriptors',
    alert => [qr/quickblox "short": socket\(\) failed \(24: /],
    error => [failed('short',
        qr/0: no descriptor, connection or memory is left/, 0)]);
is $info, $REQUESTS - 1, 'no descriptors: the others at info';
$nginx->stop;


# OpenSSL fails, from the first call on: see t/preload/fail.c

SKIP: {
    skip "$library has not been built" if !-e $library;
    skip 'valgrind preloads a malloc() of its own'
        if $ENV{QUICKBLOX_VALGRIND};

    my $control = $t->write('fail', "\0" x 32768);
    my $nginx = nginx(['crypto'], env => {
        LD_PRELOAD => join(' ', $ENV{NGINX_PRELOAD} || (), $library),
        QUICKBLOX_FAIL => $control,
    });

    open my $file, '+<:raw', $control or die "$control: $!";
    syswrite $file, pack 'L4', $nginx->workers, 0x20, 1, 1;
    close $file;

    is_deeply requests('crypto'), {500 => $REQUESTS},
        'OpenSSL fails: all are refused';
    is told($nginx, 'crypto', 'OpenSSL fails', crit =>
        [qr/"crypto": no digest could be made, the request gets 500/]),
        $REQUESTS - 1, 'OpenSSL fails: the others at info';
}

$t->done;
