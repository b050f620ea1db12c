# After a failure of the API an application does not call it for a while: how
# long, for whom, what is served meanwhile, and what the log says of it.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(sha256_hex);
use Gateway;
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

my $GET = 'GET /session.json';
my $POST = 'POST /session.json';
my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';

my $t = Gateway->new;
my $api = $t->api;
my $broken = $t->api;
my $backend = $t->backend;

my %application = (
    (map { ($_ => '') } qw(doubling together outage clients flood a b c d)),
    stale => 'cache_valid 1s; cache_stale 2s;',
    fresh => 'cache_valid 1s;',
    dates => 'cache_valid 1s; cache_stale 1h;',
);

my %api = map { $_ => $_ eq 'doubling' ? $broken->url : $api->url }
    keys %application;

$t->nginx((join '', map { <<"END" } sort keys %application)
quickblox_application $_ {
    api $api{$_};
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone $_ 256k;
    $application{$_}
}
END
    . <<'END' . (join '', map { <<"END" } sort keys %application) . '}',
server {
    listen 127.0.0.1:%%PORT_0%%;
    add_header X-Status $quickblox_status always;
    add_header X-Expires $quickblox_expires always;
END
location /$_/client/ {
    quickblox $_;
    proxy_pass %%BACKEND%%;
}
location /$_/user/ {
    quickblox $_;
    quickblox_session user;
    proxy_pass %%BACKEND%%;
}
END
    workers => 2);

sub session { return $api->session(user_id => 5) }

sub client ($app, $token = session()) {
    return $t->get("/$app/client/x", token => $token);
}

# Status and Retry-After of a refusal, status and $quickblox_status else.
sub said ($res) {
    return join ' ', $res->status,
        $res->header($res->status == 503 ? 'Retry-After' : 'X-Status') // '';
}

# The answer to the first request for which the API is called again.
sub next_call ($app) {
    my $calls = $api->calls;
    my $res;

    wait_for("call for $app", sub {
        $res = client($app, 'not-a-session');
        return $api->calls > $calls;
    });

    return $res;
}

# All that waits watches one application that calls an API which always fails.
my (@watched, $begin);

sub watch {
    my $res = client('doubling', 'not-a-session');
    my $calls = $broken->calls;

    push @watched, {time => time - $begin, said => said($res)}
        if $calls > @watched;

    return;
}

sub wait_for ($what, $condition) {
    return $t->wait_for(sub {
        watch();
        return $condition->();
    }, $what);
}

sub errors ($app) {
    return grep { /\[error\]/ && /"$app"/ } split /\n/, $t->error_log;
}


# All kinds of calls, in all workers

$broken->fail(status => 500);
$begin = time;
watch();

is said($t->get('/doubling/user/x')), '503 1', 'no session is asked for';
is said(client('doubling')), '503 1', 'nor another token' for 1 .. 10;
is $broken->calls, 1, 'nobody calls';


# An outage under load, and its end

is said(client('outage')), '200 MISS', 'another application calls';

$api->close_port;
my %status;
my $until = time + 0.5;

while (time < $until) {
    my @clients = map { $t->start(path => '/outage/client/x',
        token => 'not-a-session') } 1 .. 50;
    $status{$_->finish->status}++ for @clients;
}

is_deeply [keys %status], [503], 'an outage under load: all are refused';
cmp_ok $status{503}, '>=', 50, 'which are many';
is errors('outage'), 1, 'T65: one line at its start';

$api->open_port;
is next_call('outage')->status, 401, 'the API is called again';
is said(client('outage')), '200 MISS', 'for everybody';

my @lines = errors('outage');
is @lines, 2, 'T65: and one line at its end';
like $lines[0], qr/API call "GET \/session\.json" failed, status 0: .*onnect/,
    'T65: which say why';
like $lines[1], qr/"outage": the API answers again/, 'T65: and that it ended';

$api->fail(status => 500, times => 1);
is said(client('outage')), '503 1', 'the next failure is a first one again';
is errors('outage'), 3, 'T65: and a new outage';


# Calls that fail together are one failure

$api->fail(endpoint => $GET, hold => 1, status => 502, times => 10);

my @clients = map { $t->start(path => '/together/client/x',
    token => session()) } 1 .. 10;
$api->wait_held(10);
$api->release;

is_deeply [map { said($_->finish) } @clients], [('503 1') x 10],
    'ten calls fail together';

$api->fail(endpoint => $GET, status => 502, times => 1);
is said(next_call('together')), '503 2', 'and count as one';
$api->heal;


# T70: never for what a client did

my @odd = (
    ['an unknown token', 401, {}, 'unknown-token'],
    ['no token of QuickBlox', 401, {}, '!'],
    ['an expired token', 401, {status => 401, body => $EXPIRED}],
    ['401 of another kind', 401, {status => 401,
        body => '{"errors":["Unauthorized"]}'}],
    ['another application', 403,
        {patch => {session => {application_id => 93}}}],
    ['an application session', 403, {patch => {session => {user_id => 0}}}],
    ['403', 503, {status => 403}],
    ['404', 503, {status => 404}],
    ['422', 503, {status => 422}],
    ['a redirect', 503, {status => 302}],
    ['no session', 503, {body => '{}'}],
    ['another token', 503, {patch => {session => {token => 'a' x 40}}}],
);

for my $case (@odd) {
    my ($name, $status, $how, $token) = @$case;

    $api->fail(%$how, token => $token //= session()) if %$how;

    for (1 .. 3) {
        is client('clients', $token)->status, $status, "T70: $name";
        is said(client('clients')), '200 MISS', "T70: $name: others pass";
    }

    $api->heal;
}

is said($t->get('/clients/user/x')), '200 MISS', 'T70: a session is made';
is errors('clients'), 1, 'T65: one line of all that';


# T65: rejected tokens are no errors

my @connections = map { $t->client } 1 .. 4;
my $rejected = 0;

for my $i (1 .. 250) {
    $connections[$_]->start(path => '/flood/client/x', keepalive => 1,
        token => "unknown-$i-$_") for 0 .. 3;
    $rejected += grep { $_->finish->status == 401 } @connections;
}

is $rejected, 1000, 'T65: 1000 tokens are rejected';
is errors('flood'), 0, 'T65: without a line at level error';

my $digest = substr sha256_hex('unknown-250-3'), 0, 8;
is scalar(grep { /\[info\]/ && /\ quickblox\ refused:\ Required\ session\ does
    \ not\ exist,\ application:\ "flood",\ source:\ client,
    \ token:\ $digest,/x } split /\n/, $t->error_log), 1,
    'T65: but with one at info, of a digest';


# cache_stale: what was validated is trusted for longer

my $token = session();
my @apps = qw(stale dates fresh);
my %first = map { $_ => client($_, $token) } @apps;

my $validated = time;

# T56: an expiry that an answer other than 2xx tells; for "dates" below.
my $date = strftime('%Y-%m-%d %H:%M:%S +0000', gmtime time + 8000);
my @headers = (['QB-Token-ExpirationDate', $date],
    ['Set-Cookie', 'Canary=Cookie']);

sub headers ($res) {
    return join ' ', map { scalar(my @all = $res->headers($_)) }
        qw(QB-Token-ExpirationDate Set-Cookie);
}

for my $app (@apps) {
    is said($first{$app}), '200 MISS', "$app: a token is validated";
    is headers($first{$app}), '0 0', 'T56: 200: no header is handed on';
}

wait_for('end of cache_valid',
    sub { said(client('fresh', $token)) eq '200 MISS' });

for my $status (403, 422) {
    $api->fail(status => $status, headers => \@headers);
    my $res = client('dates', $token);
    is said($res), '503 1', "T56: $status: refused";
    is headers($res), '0 0', "T56: $status: no header of it is handed on";
    $api->heal;
}

$api->fail(status => 503, headers => \@headers);
$api->reset_calls;

is said(client('stale', $token)), '200 STALE', 'the API fails: still trusted';
is said(client('stale', $token)), '200 STALE', 'and again';
is $api->calls, 1, 'with one call';
like said(client('stale')), qr/^503/, 'what was not validated is not';

my $res = client('dates', $token);
is said($res), '200 STALE', 'T56: 503: an old validation';
is $res->header('X-Expires'), $first{dates}->header('X-Expires'),
    'T56: 503: the expiry has not moved';
is headers($res), '0 0', 'T56: 503: no header of it is handed on';

wait_for('end of cache_valid',
    sub { said(client('fresh', $token)) =~ /^503/ });
pass 'without cache_stale, cache_valid is all';

wait_for('end of cache_stale',
    sub { said(client('stale', $token)) =~ /^503/ });
cmp_ok time - $validated, '>=', 1.9, 'not before cache_valid and cache_stale';
cmp_ok time - $validated, '<', 4, 'but after them';

$api->heal;
$api->expire($token);
wait_for('the API answers again',
    sub { client('dates', $token)->status == 401 });
pass 'the API answers again: an expired token is refused';


# 1 s, doubling with each further failure

wait_for('third failure', sub { @watched >= 3 });

is_deeply [map { $_->{said} } @watched[0 .. 2]], ['503 1', '503 2', '503 4'],
    'the waiting time doubles';
cmp_ok $watched[1]{time}, '>=', 0.95, 'the second call comes after 1 s';
cmp_ok $watched[2]{time} - $watched[1]{time}, '>=', 1.95,
    'the third after 2 s more';

@lines = errors('doubling');
is @lines, 1, 'T65: one line at level error';
like $lines[0], qr{:\ quickblox\ application\ "doubling":\ API\ call
    \ "GET\ /session\.json"\ failed,\ status\ 500:\ .*,\ source:\ client,
    .*\ next\ call\ in\ 1\ s$}x, 'T65: which names all that matters';


# T56: calls for a session

for my $case (['a', 401], ['b', 403], ['c', 422], ['d', 503]) {
    my ($app, $status) = @$case;

    $api->fail(endpoint => $POST, status => $status, headers => \@headers);
    $res = $t->get("/$app/user/x");
    is said($res), '503 1', "T56: $status: no session";
    is headers($res), '0 0', "T56: $status: no header of it is handed on";
    is $res->header('X-Expires'), undef, "T56: $status: no expiry";
    $api->heal;
}

$t->done;
