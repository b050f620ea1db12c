# "quickblox_status": every request and every call of the API is counted once,
# in JSON, for Prometheus and on a page, whichever worker is asked, and over a
# reload.  No secret, token or user is in it.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(encode_base64);
use Mojo::JSON qw(decode_json);
use Node;
use Test::More;

my @SOURCES = qw(client basic cookie user user_token application api_key);
my @RESULTS = qw(hit miss wait refresh stale rejected error);
my @CALLS = qw(validate create login logout destroy);
my @LIMITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5);

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend(check => $api);

$t->secret('Canary-Wrong-Pw');
chmod 0600, $t->write('key', '0123456789abcdef' x 4);

my $configuration = <<'END';
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    cookie_key %%DIR%%/key;
    cookie qb "Path=/; HttpOnly";
    zone quickblox 1m;
    refresh_before 30m;
    cache_stale 1h;
}

quickblox_application small {
    api %%API%%;
    application_id 92;
    zone "a <b> \"c\"" 32k;
}

quickblox_application renewed {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login alice;
    password Canary-Alice-Pw;
    zone quickblox;
    session_lifetime 3h;
    refresh_before 150m;
}

server {
    listen 127.0.0.1:%%PORT_0%%;
    quickblox chat;

    location / {
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /renewed/ {
        quickblox renewed;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /application/ {
        quickblox_session application;
        proxy_pass %%BACKEND%%;
    }
    location /key/ {
        quickblox_session api_key;
        proxy_pass %%BACKEND%%;
    }
    location /basic/ {
        quickblox_session basic;
        proxy_pass %%BACKEND%%;
    }
    location /cookie/ {
        quickblox_session cookie;
        proxy_pass %%BACKEND%%;
    }
    location /vouched/ {
        quickblox_session user_token;
        quickblox_user $arg_user;
        proxy_pass %%BACKEND%%;
    }
    location /none/ {
        quickblox_session none;
        proxy_pass %%BACKEND%%;
    }
    location /small/ {
        quickblox small;
        proxy_pass %%BACKEND%%;
    }
    location /off/ {
        quickblox off;
        proxy_pass %%BACKEND%%;
    }

    location = /login   { quickblox_login; }
    location = /logout  { quickblox_logout; }
    location = /destroy { quickblox_logout destroy; }
    location = /me      { quickblox_check; }

    location = /status            { quickblox_status; }
    location = /status/json       { quickblox_status json; }
    location = /status/prometheus { quickblox_status prometheus; }
    location = /status/html       { quickblox_status html; }
}
END

my $nginx = $t->nginx($configuration, workers => 3);

sub status () { return $t->get('/status/json')->json }

# What has changed between two looks, by path: {'api.create.ok' => 1, ...}
sub numbers ($value, $path = '') {
    return map { numbers($value->{$_}, length $path ? "$path.$_" : $_) }
        keys %$value if ref $value eq 'HASH';

    return ($path => $value);
}

my %before = numbers(status()->{applications}{chat});

sub is_changed ($name, %expected) {
    my %now = numbers(status()->{applications}{chat});
    my %changed;

    for (keys %now) {
        next if /^(?:zone|held|last_success|api_seconds|backoff)/;
        my $n = $now{$_} - ($before{$_} // 0);
        $changed{$_} = $n if $n;
    }

    %before = %now;

    return is_deeply \%changed, \%expected, $name;
}

sub basic ($password) {
    return headers => {Authorization => 'Basic '
        . encode_base64("bob:$password", '')};
}

sub cookie ($res) {
    return headers => {Cookie => $res->header('Set-Cookie') =~ s/;.*//r};
}


# What it looks like

my $first = status();

is $first->{version}, '0.1.0', 'the version of the module';
like $first->{nginx}, qr/^1\.\d+\.\d+$/, 'and of nginx';
cmp_ok abs($first->{now} - time), '<', 5, 'the time';

is_deeply [sort keys %$first],
    [qw(applications nginx now version zones)], 'nothing else';
is_deeply [sort keys %{$first->{applications}}], [qw(chat renewed small)],
    'each application';
is_deeply [sort keys %{$first->{zones}}], ['a <b> "c"', 'quickblox'],
    'each zone';

my $zeroes = sub (@names) { return {map { $_ => 0 } @names} };

is_deeply $first->{applications}{chat}, {
    zone => 'quickblox',
    requests => {map { $_ => $zeroes->(@RESULTS) } @SOURCES},
    api => {map { $_ => $zeroes->(qw(ok refused failed)) } @CALLS},
    api_seconds => {le => \@LIMITS, count => [(0) x @LIMITS], sum => 0,
        total => 0},
    replays => $zeroes->(qw(replayed mapped failed)),
    expired => 0, renewed => 0, backoff => 0, last_success => 0, held => {},
}, 'all zeroes at first';

is_deeply [sort keys %{$first->{zones}{quickblox}}],
    [qw(capacity evicted held_free rejections sessions size)],
    'what a zone has';
is $first->{zones}{quickblox}{size}, 1 << 20, 'its size';


# Each kind of request

my $token = $api->session(user_id => 5);

$t->get('/a', token => $token) for 1 .. 4;
is_changed 'client', 'requests.client.miss' => 1, 'requests.client.hit' => 3,
    'api.validate.ok' => 1;

$t->get('/a', token => 'no-such-token-at-all') for 1 .. 3;
is status()->{zones}{quickblox}{rejections}, 1, 'a rejection is remembered';
is_changed 'client, rejected', 'requests.client.rejected' => 3,
    'api.validate.refused' => 1;

$t->get('/a') for 1 .. 2;
is_changed 'client, no token', 'requests.client.rejected' => 2;

$t->get('/user/a') for 1 .. 3;
is_changed 'user', 'requests.user.miss' => 1, 'requests.user.hit' => 2,
    'api.create.ok' => 1;

$t->get('/application/a') for 1 .. 2;
is_changed 'application', 'requests.application.miss' => 1,
    'requests.application.hit' => 1, 'api.create.ok' => 1;

$t->get('/key/a') for 1 .. 2;
is_changed 'api_key', 'requests.api_key.hit' => 2;

$t->get('/basic/a', basic('Canary-Bob-Pw')) for 1 .. 2;
is_changed 'basic', 'requests.basic.miss' => 1, 'requests.basic.hit' => 1,
    'api.create.ok' => 1;

$t->get('/basic/a', basic('Canary-Wrong-Pw')) for 1 .. 2;
is_changed 'basic, a wrong password', 'requests.basic.rejected' => 2,
    'api.create.refused' => 1;

$t->get('/vouched/a?user=6') for 1 .. 2;
is_changed 'user_token', 'requests.user_token.miss' => 1,
    'requests.user_token.hit' => 1, 'api.create.ok' => 1;

$t->get($_) for '/none/a', '/off/a';
is_changed 'neither "none" nor "off" is counted';

my $login = $t->post('/login', undef,
    json => {login => 'bob', password => 'Canary-Bob-Pw'});
is_changed 'a login is a call of the API', 'api.create.ok' => 1;

$t->post('/login', undef,
    json => {login => 'bob', password => 'Canary-Wrong-Pw'});
is_changed 'a wrong one', 'api.create.refused' => 1;

$t->get('/cookie/a', cookie($login)) for 1 .. 2;
is_changed 'cookie', 'requests.cookie.hit' => 2;

$t->get('/me', cookie($login));
is_changed 'quickblox_check', 'requests.cookie.hit' => 1;

$t->post('/logout', '', cookie($login));
is_changed 'a logout', 'api.logout.ok' => 1;

$t->post('/destroy', '', token => $api->session(user_id => 6));
is_changed 'one for good', 'api.destroy.ok' => 1;

my $adopted = $api->session;
$t->post('/login', undef, json => {login => 'bob',
    password => 'Canary-Bob-Pw', token => $adopted});
is_changed 'an adoption with a login', 'api.validate.ok' => 1,
    'api.login.ok' => 1;

$api->fail(endpoint => 'GET /session.json', hold => 1);
my $held = $api->session(user_id => 5);
my @waiting = map { $t->start(path => '/a', token => $held) } 1 .. 3;
$api->wait_held(1);
$t->wait_for(sub { $backend->connections; return 1 });
$api->heal;
$api->release;
my %seen;
$_->finish for @waiting;
my %now = numbers(status()->{applications}{chat});
is $now{'requests.client.miss'} - $before{'requests.client.miss'}, 1,
    'of several at once one is a miss';
is $now{'requests.client.wait'} + $now{'requests.client.hit'}
    - $before{'requests.client.wait'} - $before{'requests.client.hit'}, 2,
    'and the others wait';
is $now{'api.validate.ok'} - $before{'api.validate.ok'}, 1, 'for one call';
%before = %now;


# Expiries

$api->expire_all;

$t->get('/user/a');
is_changed 'an expired response is replayed', 'requests.user.miss' => 1,
    'api.create.ok' => 1, 'replays.replayed' => 1, expired => 1;

$t->get('/a', token => $token);
is_changed 'or mapped', 'requests.client.rejected' => 1,
    'replays.mapped' => 1, expired => 1;

$t->get('/user/a');
is_changed 'then all is well', 'requests.user.hit' => 1;

ok $t->reload, 'a reload';
is_changed 'changes nothing';


# A renewal

$t->get('/renewed/a') for 1 .. 2;
$t->wait_for(sub { status()->{applications}{renewed}{renewed} == 1 },
    'renewal that is counted');
my $renewed = status()->{applications}{renewed};
is_deeply [@{$renewed->{requests}{user}}{qw(miss refresh)}], [1, 1],
    'a session is renewed';
is_deeply [map { $_->{ok} } @{$renewed->{api}}{qw(create validate)}], [1, 1],
    'by a call';


# The API fails

$api->expire_all;
$api->fail(endpoint => 'POST /session.json', status => 500);
is $t->get('/user/a')->status, 503, 'the API fails';

my %failed = numbers(status()->{applications}{chat});
is $failed{'requests.user.error'} - $before{'requests.user.error'}, 1,
    'an error';
is $failed{'replays.failed'} - $before{'replays.failed'}, 1,
    'a replay that failed';
is $failed{'api.create.failed'} - $before{'api.create.failed'}, 1,
    'a call that failed';
cmp_ok $failed{backoff}, '>=', 1, 'and for how long there is none';
$api->heal;


# The whole

my $all = status();
my $chat = $all->{applications}{chat};
my $calls = 0;
$calls += $_ for map { values %$_ } values %{$chat->{api}};

is $chat->{api_seconds}{total}, $calls, 'each call took some time';
is $chat->{api_seconds}{count}[-1], $calls, 'and none more than 5 s';
cmp_ok $chat->{api_seconds}{count}[$_], '>=',
    $chat->{api_seconds}{count}[$_ - 1], "the counts are of all below: $_"
    for 1 .. 9;
cmp_ok $chat->{api_seconds}{sum}, '<', $calls, 'how long all took';
cmp_ok abs($chat->{last_success} - time), '<', 60, 'the last success';

my $zone = $all->{zones}{quickblox};
cmp_ok $zone->{sessions}, '>', 0, 'sessions in the zone';
cmp_ok $zone->{capacity}, '>', 8000, 'room for many';
cmp_ok $zone->{held_free}, '<', $first->{zones}{quickblox}{held_free},
    'sessions held take room';


# A zone that is full

my $small = $all->{zones}{'a <b> "c"'};
my $n = 3 * $small->{capacity};
$t->get('/small/a', token => $api->session(user_id => 5)) for 1 .. $n;

my $full = status()->{zones}{'a <b> "c"'};
cmp_ok $full->{sessions}, '<=', $small->{capacity}, 'a full zone';
cmp_ok $full->{sessions}, '>', $small->{capacity} / 2, 'is full';
is $full->{sessions} + $full->{evicted}, $n, 'others have given way';


# Formats

for my $case (
    [undef, 'json'],
    ['*/*', 'json'],
    ['', 'json'],
    ['application/json', 'json'],
    ['text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
        'html'],
    ['application/openmetrics-text;version=1.0.0;q=0.75,'
        . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1', 'prometheus'],
    ['text/*', 'prometheus'],
    ['text/*;q=0.5, text/html', 'html'],
    ['text/html;q=0.2, application/json;q=0.3', 'json'],
    ['text/html;q=0.3;level=1 , application/json; q=0.2', 'html'],
    ['text/html;q=0, */*', 'json'],
    ['text/html;q=1, text/plain;q=0.9', 'html'],
    ['TEXT/HTML', 'html'],
    ['image/png', 'json'],
    [';,;q=,q=1,/,*,text', 'json'],
) {
    my ($accept, $format) = @$case;
    my $name = defined $accept ? "Accept: $accept" : 'no Accept';
    my $res = $t->get('/status',
        headers => defined $accept ? {Accept => $accept} : {});

    is $res->header('Content-Type'), type($format), "$name: $format";
    is $res->header('Cache-Control'), 'no-store', 'is not kept';
}

sub type ($format) {
    return {
        json => 'application/json',
        html => 'text/html; charset=utf-8',
        prometheus => 'text/plain; version=0.0.4; charset=utf-8',
    }->{$format};
}

for my $format (qw(json prometheus html)) {
    my $res = $t->get("/status/$format", headers => {Accept => 'image/png'});
    is $res->status, 200, "$format, whatever is accepted";
    is $res->header('Content-Type'), type($format), 'its type';
}

for my $method (qw(POST HEAD PUT)) {
    my $res = $t->request(method => $method, path => '/status');
    is $res->status, 405, "$method is not allowed";
    is $res->header('Allow'), 'GET', 'GET is';
}

is $t->get('/status', headers => {Origin => 'https://example.com'})->status,
    403, 'a page of another origin may not see it';


# Prometheus

my $text = $t->get('/status/prometheus')->body;
my %sample = $text =~ /^(quickblox_\S+\{.*?\}) (\S+)$/mg;

is $sample{qq(quickblox_requests_total{application="chat",source="$_->[0]",)
        . qq(result="$_->[1]"})}, $failed{"requests.$_->[0].$_->[1]"},
    "requests: @$_"
    for map { my $source = $_; map { [$source, $_] } @RESULTS } @SOURCES;

is $sample{qq(quickblox_api_calls_total{application="chat",call="$_->[0]",)
        . qq(outcome="$_->[1]"})}, $failed{"api.$_->[0].$_->[1]"},
    "calls: @$_"
    for map { my $call = $_; map { [$call, $_] } qw(ok refused failed) }
        @CALLS;

is $sample{qq(quickblox_replays_total{application="chat",outcome="$_"})},
    $failed{"replays.$_"}, "replays: $_" for qw(replayed mapped failed);

is $sample{qq(quickblox_${_}_total{application="chat"})}, $failed{$_}, $_
    for qw(expired renewed);

is $sample{qq(quickblox_zone_$_->[0]\{zone="a <b> \\"c\\""})},
    $full->{$_->[1]}, "zone: $_->[1]"
    for ['sessions', 'sessions'], ['rejections', 'rejections'],
        ['capacity', 'capacity'], ['evicted_total', 'evicted'],
        ['bytes', 'size'], ['held_free_bytes', 'held_free'];

is $sample{'quickblox_api_duration_seconds_count{application="chat"}'},
    $sample{'quickblox_api_duration_seconds_bucket{application="chat",'
        . 'le="+Inf"}'}, 'the last bucket has all calls';

is $sample{qq(quickblox_session_expires_timestamp_seconds{application="chat",)
        . qq(type="$_"})}, status()->{applications}{chat}{held}{$_}{expires},
    "when the session of $_ ends" for keys %{$chat->{held}};

like $text, qr/^quickblox_build_info\{version="0\.1\.0",nginx="[\d.]+"\} 1$/m,
    'the versions';

my $promtool = $ENV{QUICKBLOX_PROMTOOL} // 'build/promtool';

SKIP: {
    skip 'promtool is not installed', 1 if !-x $promtool;
    my $file = $t->write('metrics', $text);
    my $said = `"$promtool" check metrics < "$file" 2>&1`;
    is "$? $said", '0 ', 'promtool has nothing to say';
}


# The page

my $page = Node::seen($t, 't/browser/status.js', {
    page => 'http://127.0.0.1:' . $t->port(0) . '/status/html',
    more => 'http://127.0.0.1:' . $t->port(0) . '/key/a',
    shots => $ENV{QUICKBLOX_SHOTS} // $t->dir,
    chromium => Node::program('chromium'),
});

ok $page, 'the page is looked at';

if ($page) {
    is_deeply $page->{errors}, [], 'no errors';
    is_deeply $page->{foreign}, [], 'nothing of any other address';
    is_deeply $page->{titles}, ['chat', 'small', 'renewed', 'zone quickblox',
        'zone a <b> "c"'], 'a card for each application and zone';
    is $page->{after} - $page->{before}, 5, 'it follows what happens';
    is $page->{overflow}, 0, 'it fits a phone';
}


# Nothing of anybody

for my $format (qw(json prometheus html)) {
    my $body = $t->get("/status/$format")->body;
    unlike $body, qr/Canary|\Q$token\E|\bbob\b|wJHd4cQSxpQGWx5/,
        "$format: no secret, token or user";
    unlike $body, qr/\Q$_->{token}\E/, "$format: nor this token"
        for grep { ref } $api->sessions;
}


# A worker that is to end while it counts

$nginx->stop;
$nginx = $t->nginx(<<'END', workers => 1);
quickblox_application large {
    api %%API%%;
    application_id 92;
    zone large 128m;
}

server {
    listen 127.0.0.1:%%PORT_0%%;

    location = /status {
        quickblox large;
        quickblox_status json;
    }
    location / {
        return 204;
    }
}
END

my $whole = 0;

for (1 .. 10) {
    my ($worker) = $nginx->workers;
    my $client = $t->client;

    $client->start(path => '/', keepalive => 1)->finish;
    $client->start(path => '/status');
    kill QUIT => $worker;

    # It may have closed the connection before it saw the request; if it
    # did see it, then an answer that is lost is an [alert] of nginx's.
    my $res = $client->finish;
    $whole++ if $res->json;
    ok $res->json || !length $res->raw, 'a whole answer, or none at all';

    $t->wait_for(sub { (($nginx->workers)[0] // $worker) != $worker },
        'another worker');
}

note "it counted to the end: $whole of 10";

$t->done;
