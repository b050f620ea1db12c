# What is not replayed, and how often the gateway logs in: only an expired
# response is, once a request; everything else passes as it came, after a
# replay as well; storms of expired responses end in one login, and responses
# that stay expired do not make the gateway log in without end.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(sha256_hex);
use Gateway;
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;

my @USERS = 0 .. 8;

my $api = $t->api(users => [
    map { ["gateway$_", "Canary-Gateway-Pw-$_", 100 + $_] } @USERS
]);
my $backend = $t->backend(check => $api);
my $open = $t->backend;

my $applications = join "\n", map { <<"END" } @USERS;
quickblox_application app$_ {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway$_;
    password Canary-Gateway-Pw-$_;
    zone quickblox 1m;
}
END

# What passes is held to what /plain/ hands on.
$t->nginx($applications . <<'END', workers => 2);
upstream kept {
    server 127.0.0.1:%%BACKEND_PORT%%;
    keepalive 1;
}

quickblox_session user;
add_header X-Replayed $quickblox_replayed always;

server {
    listen 127.0.0.1:%%PORT_0%%;

    location / {
        quickblox app0;
        proxy_pass %%BACKEND%%;
    }
    location /passed/ {
        quickblox app0;
        proxy_read_timeout 500ms;
        proxy_pass %%BACKEND%%;
    }
    location /plain/ {
        proxy_read_timeout 500ms;
        proxy_pass http://127.0.0.1:%%PORT_backend_2%%;
    }
    location /after/ {
        quickblox app1;
        proxy_read_timeout 500ms;
        proxy_pass %%BACKEND%%;
    }
    location /kept/ {
        quickblox app2;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass http://kept;
    }
    location /kept/plain/ {
        quickblox off;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass http://kept;
    }
    location /storm/ {
        quickblox app3;
        proxy_pass %%BACKEND%%;
    }
    location /proved/ {
        quickblox app4;
        proxy_pass %%BACKEND%%;
    }
    location /unproved/ {
        quickblox app5;
        proxy_pass %%BACKEND%%;
    }
    location /unproved/status/ {
        quickblox app8;
        quickblox_expired 401;
        proxy_pass %%BACKEND%%;
    }
    location /headers-off/ {
        quickblox app6;
        proxy_pass_request_headers off;
        proxy_pass %%BACKEND%%;
    }
    location /headers-off/set/ {
        quickblox app6;
        proxy_pass_request_headers off;
        proxy_set_header QB-Token $quickblox_token;
        proxy_pass %%BACKEND%%;
    }
    location /headers-on/set/ {
        quickblox app6;
        proxy_set_header QB-Token $quickblox_token;
        proxy_pass %%BACKEND%%;
    }
}

server {
    listen 127.0.0.1:%%PORT_1%% http2;
    location / {
        quickblox app7;
        proxy_pass %%BACKEND%%;
    }
}
END

my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';

sub logins { return $api->calls('POST /session.json') }

sub fields ($res) {
    return [sort map { "$_->[0]: $_->[1]" }
        grep { $_->[0] !~ /^(?:Date|Connection|QB-Token-.*)$/ }
            @{$res->pairs}];
}


# T20: one request, one execution, unless the answer is an expired one.

my $JSON = [['Content-Type', 'application/json']];

my @passed = (
    # what the upstream does, and how; the status if it is another
    (map { ["$_ with the text", {status => $_, headers => $JSON,
        body => $EXPIRED}] }
        200, 201, 202, 301, 302, 400, 402, 403, 404, 405, 408, 409, 410, 419,
        422, 429, 440, 498, 500, 501, 502, 503, 504),
    ['204', {status => 204}],
    ['304', {status => 304}],
    ['401 for want of a token', {status => 401, headers => $JSON,
        body => '{"errors":["Token is required"]}'}],
    ['401 of a login', {status => 401, headers => $JSON,
        body => '{"errors":["Unauthorized"]}'}],
    ['401 of a page', {status => 401, headers => [['WWW-Authenticate',
        'Basic realm="x"']], body => '<h1>Who are you?</h1>'}],
    ['401 with the text in a header', {status => 401, headers => [
        ['X-Error', 'Required session does not exist']], body => '{}'}],
    ['401 with most of the text', {status => 401, headers => $JSON,
        body => $EXPIRED =~ s/exist/exis/r}],
    ['401 without a body', {status => 401, body => ''}],
    ['a timeout', {blackhole => 1}, 504],
    ['a timeout in the body', {body => 'x' x 1000, length => 2000}],
    ['the end before an answer', {cut => 'before'}, 502],
    ['the end in the head', {cut => 'headers'}, 502],
    ['the end in the body', {body => 'x' x 1000, cut => 'body'}],
    ['the end in a 401', {status => 401, body => $EXPIRED . 'x' x 1000,
        cut => 'body'}],
    ['a timeout in a 401', {status => 401, body => $EXPIRED, length => 99}],
    ['RST before an answer', {reset => 'before'}, 502],
    ['no HTTP', {raw => "Required session does not exist\r\n\r\n"}],
);

is $t->get('/warm')->status, 200, 'T20: a session is there';
$backend->reset;
$api->reset_calls;

# All at once, as some of them take their time.
my @started;

for my $method (qw(GET POST)) {
    for my $index (keys @passed) {
        my ($name, $how, $status) = @{$passed[$index]};
        my @paths = map { "/$_/$index/$method" } 'passed', 'plain';

        $backend->answer($paths[0], %$how);
        $open->answer($paths[1], %$how);

        push @started, [$name, $method, $how->{status} // $status, @paths,
            map { $t->start(method => $method, path => $_,
                $method eq 'POST' ? (body => 'once') : ()) } @paths];
    }
}

for (@started) {
    my ($name, $method, $status, $path, $plain, @clients) = @$_;
    my ($res, $as) = map { $_->finish } @clients;

    is $res->status, $status // 200, "T20: $method, $name: the status"
        if $name ne 'no HTTP';
    is_deeply [$res->status, fields($res), $res->body, $res->complete],
        [$as->status, fields($as), $as->body, $as->complete],
        "T20: $method, $name: passes as it came";
    is $backend->hits($path), 1, "T20: $method, $name: once";
}

is $api->calls('POST /session.json'), 0, 'T20: no session was made for that';
$backend->heal;

is $t->get('/after-all')->json->{hit}, 1, 'T20: nor was any dropped';
is $api->calls('POST /session.json'), 0, 'T20: indeed';


# T20: after a replay whatever comes passes, and nothing is sent again.

my @after = (
    ['500', {status => 500, body => 'broken'}],
    ['404', {status => 404, body => $EXPIRED}],
    ['302', {status => 302, headers => [['Location', '/elsewhere']],
        body => 'there'}],
    ['204', {status => 204}],
    ['401 for want of a token', {status => 401, headers => $JSON,
        body => '{"errors":["Token is required"]}'}],
    ['401 of an expired session again', {status => 401, headers => [@$JSON,
        ['Set-Cookie', 'a=b']], body => $EXPIRED}],
    ['the end before an answer', {cut => 'before'}, 502],
    ['a timeout', {blackhole => 1}, 504],
);

for my $method (qw(GET POST)) {
    for (@after) {
        my ($name, $how, $status) = @$_;
        my $path = '/after/' . $name =~ s/ /_/gr . "/$method";

        $t->get('/after/');
        $api->expire_all;
        $api->reset_calls;
        $open->answer('/plain/after', %$how);
        $backend->answer($path, %$how);
        $backend->answer($path, times => 1);

        my ($res, $as) = map { $_->finish } map { $t->start(
                method => $method, path => $_,
                $method eq 'POST' ? (body => 'once') : ()) }
            $path, '/plain/after';

        is $res->status, $how->{status} // $status,
            "T20: $method, $name after a replay: the status";
        is_deeply [$res->body, fields($res)],
            [$as->body, [sort @{fields($as)}, 'X-Replayed: 1']],
            "T20: $method, $name after a replay: passes as it came";
        is $backend->hits($path), 2,
            "T20: $method, $name after a replay: twice in all";
        is_deeply $api->counts, {'POST /session.json' => 1},
            "T20: $method, $name after a replay: one login";

        $backend->heal;
    }
}


# F24: nginx tries another connection where the kept one has gone, and the
# same as without the module.

for my $method (qw(GET PUT POST)) {
    my @outcome;

    for my $under ('/kept/', '/kept/plain/') {
        my $path = "$under$method";

        $backend->answer('*', status => 200, headers => [], body => 'well');
        $backend->answer($path, cut => 'before', times => 1);

        # Of one connection, and so in one worker.
        my $client = $t->client;
        is $client->get($under)->status, 200,
            "F24: $method, $under: a connection";
        my $res = $client->request(method => $method, path => $path,
            body => 'b');

        push @outcome, [$res->status, $res->body =~ s/.*(50\d).*/$1/sr,
            $backend->hits($path)];
        $backend->heal;
    }

    is_deeply $outcome[0], $outcome[1], "F24: $method as in plain nginx";
    is_deeply $outcome[0], $method eq 'POST' ? [502, 502, 1]
        : [200, 'well', 2], "F24: $method is, or is not, sent again";
}

# Under a dead session, too: each of the two is one request to nginx.
{
    $t->get('/kept/');
    $api->expire_all;
    $api->reset_calls;
    $backend->answer('/kept/dead', cut => 'before', times => 1);

    my $res = $t->post('/kept/dead', 'b');

    is $res->status, 502, 'F24: POST under a dead session';
    is $backend->hits('/kept/dead'), 1, 'F24: no replay hides the 502';
    is logins(), 0, 'F24: nobody knows yet that the session is dead';

    $res = $t->post('/kept/dead', 'b');

    is $res->status, 200, 'F24: the next one is replayed';
    is logins(), 1, 'F24: after a login';
}


# T21: many expired responses at once are one expiry.

sub storm ($name, $count, %opt) {
    $t->get('/storm/');
    $api->expire_all;
    $api->reset_calls;
    $backend->reset;

    # All have been sent with the old token when the first one is refused.
    $backend->answer('*', times => $count, hold => 1);

    my @clients = map { $t->start(path => "/storm/$_", %opt) } 1 .. $count;
    $backend->wait_held($count);
    $backend->release;

    my @responses = map { $_->finish } @clients;
    my ($live) = map { $_->{token} } $api->sessions;
    my %got;

    push @{$got{$_->{path}}}, $_ for $backend->requests;

    is_deeply [map { $_->status } @responses], [(200) x $count],
        "T21: $name: all are served";
    is_deeply [grep { $_->json->{token} ne $live } @responses], [],
        "T21: $name: under the one new session";
    is logins(), 1, "T21: $name: of one login";
    is_deeply [map { scalar @{$got{"/storm/$_"}} } 1 .. $count],
        [(2) x $count], "T21: $name: each was sent twice, no more";
    is_deeply [grep { $_->{body} ne ($opt{body} // '') }
        map { @$_ } values %got], [], "T21: $name: with its body";
}

storm('GET', 120);
storm('POST', 120, body => 'a body of its own');

# F31: the same over one connection of HTTP/2.
{
    $t->h2('/warm', port => $t->port(1));
    $api->expire_all;
    $api->reset_calls;
    $backend->reset;
    $backend->answer('*', times => 100, hold => 1);

    my $pid = open my $h2load, '-|', 'h2load', '-n100', '-c1', '-m100',
        'http://127.0.0.1:' . $t->port(1) . '/many' or die "h2load: $!";
    $backend->wait_held(100);
    $backend->release;

    my $output = do { local $/; <$h2load> };
    close $h2load;

    like $output, qr/^status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx/m,
        'F31: 100 streams are replayed';
    is logins(), 1, 'F31: after one login';
    is $backend->hits('/many'), 200, 'F31: each was sent twice';
}

# T21: somebody makes the upstream say so without an end.  A session that has
# been accepted may be dropped so often in a burst, then once a second.
{
    $t->get('/proved/');
    $api->reset_calls;
    $backend->reset;
    $backend->answer('/proved/bad', status => 401, body => $EXPIRED);

    my $began = time;
    my @bad;

    for (1 .. 40) {
        my @clients = map { $t->start(path => '/proved/bad', body => 'x') }
            1 .. 5;
        push @bad, map { $_->finish } @clients;

        # Meanwhile the good ones are served and prove each new session.
        is $t->get('/proved/good')->status, 200, "T21: good among bad, $_";
    }

    my $most = 16 + int(time - $began) + 1;

    is_deeply [map { $_->status . $_->body } @bad],
        [("401$EXPIRED") x 200], 'T21: a storm passes unchanged';
    cmp_ok logins(), '<=', $most, 'T21: a storm makes few logins';
    cmp_ok logins(), '>=', 2, 'T21: but is believed at first';
    cmp_ok $backend->hits('/proved/bad'), '<=', 200 + $most * 5,
        'T21: what is not replayed was sent once';
}

# T22: new sessions, each of which the upstream refuses: at once, then 1 s, 2 s
# and so on apart.
{
    $backend->answer('/unproved/x', status => 401, headers => [@$JSON,
        ['Set-Cookie', 'of=upstream']], body => $EXPIRED);
    $api->reset_calls;
    $backend->reset;

    my $began = time;
    my $first = $t->post('/unproved/x', 'x');

    is_deeply [$first->status, $first->body, $first->header('Set-Cookie'),
            $first->header('X-Replayed')],
        [401, $EXPIRED, 'of=upstream', 1],
        'T22: refused twice, the answer passes unchanged';
    is $backend->hits('/unproved/x'), 2, 'T22: after one replay';
    is logins(), 2, 'T22: after two logins';

    my (@others, @when);

    # Two more of them; nginx counts whole seconds.
    $t->wait_for(sub {
        push @others, $t->post('/unproved/x', 'x');
        $when[$_] //= time - $began for 0 .. logins();
        return $when[4];
    }, 'fourth login');

    cmp_ok $when[4], '>', 2, 'T22: the fourth login is 1 s and 2 s late';
    cmp_ok $when[4], '<', 6, 'T22: but comes';
    is_deeply [grep { $_->status != 401 || $_->body ne $EXPIRED } @others],
        [], 'T22: all the answers passed unchanged';
    is scalar(grep { $_->header('X-Replayed') } @others), 2,
        'T22: two of them were replayed';
    is $backend->hits('/unproved/x'), 2 + @others + 2,
        'T22: the others were sent once';
}

# T22: so it is where the status alone tells, and nothing is examined.
{
    $backend->answer('/unproved/status/x', status => 401, body => 'no');
    $api->reset_calls;
    $backend->reset;

    my $began = time;
    my @all = map { $t->post('/unproved/status/x', 'x') } 1 .. 10;
    my $replayed = grep { $_->header('X-Replayed') } @all;

    is_deeply [map { $_->status . $_->body } @all], [('401no') x 10],
        'T22: told by the status: all the answers passed unchanged';
    cmp_ok logins(), '<=', 2 + int(time - $began) + 1,
        'T22: told by the status: no storm of logins';
    is $backend->hits('/unproved/status/x'), 10 + $replayed,
        'T22: told by the status: the others were sent once';
}

# T63: the injected header is not sent, so each answer is an expired one.
{
    $api->reset_calls;
    $backend->reset;

    my $began = time;
    my @refused = map { $t->get('/headers-off/') } 1 .. 50;

    is_deeply [grep { $_->status != 401 } @refused], [],
        'T63: proxy_pass_request_headers off: refused by the backend';
    is_deeply [map { $_->header_all('QB-Token') }
        $backend->requests('/headers-off/')], [],
        'T63: as it gets no token';
    cmp_ok logins(), '<=', 2 + int(time - $began) + 1,
        'T63: no storm of logins';

    for ('/headers-off/set/', '/headers-on/set/') {
        is $t->get($_)->status, 200, "T63: proxy_set_header: $_";
        is_deeply [map { scalar $_->header_all('QB-Token') }
            $backend->requests($_)], [1], "T63: one header: $_";
    }

    # A session that has been accepted elsewhere.
    $api->reset_calls;
    $began = time;
    my @proved = map { ($t->get('/headers-off/'),
        $t->get('/headers-on/set/')) } 1 .. 30;

    is_deeply [map { $_->status } @proved], [(401, 200) x 30],
        'T63: beside a location where it is sent';
    cmp_ok logins(), '<=', 16 + int(time - $began) + 1,
        'T63: no storm there either';
}

$t->done;
