# The replay: an expired response to a session that the gateway holds is
# swallowed, the session made anew, and the request sent once more, the same
# byte for byte but for its token.  A client's own session is mapped to 401.
# And clients that go away meanwhile.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(sha256_hex);
use Gateway;
use IO::Uncompress::Gunzip ();
use Test::More;

my $t = Gateway->new;

# A session is replaced so often in a burst, then once a second: the cases
# are shared out among several users of the gateway.
my @USERS = 0 .. 8;

my $api = $t->api(users => [
    map { ["gateway$_", "Canary-Gateway-Pw-$_", 100 + $_] } @USERS
]);
my $backend = $t->backend(check => $api, keep_body => 1000);
my $other = $t->backend(keep_body => 1000);

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

$t->nginx($applications . <<'END', workers => 2);
log_format replay '$request_uri $status [$upstream_status] '
    '[$quickblox_replayed] $quickblox_status';
access_log %%DIR%%/nginx/access.log replay;

client_max_body_size 10m;
add_header X-Seen "$quickblox_replayed|$quickblox_status" always;
quickblox_session user;

upstream kept {
    server 127.0.0.1:%%BACKEND_PORT%%;
    keepalive 4;
}

server {
    listen 127.0.0.1:%%PORT_0%%;

    location / {
        quickblox app0;
        proxy_pass %%BACKEND%%;
    }
    location /1.1/ {
        quickblox app1;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass http://kept;
    }
    location /unbuffered/ {
        quickblox app1;
        proxy_buffering off;
        proxy_pass %%BACKEND%%;
    }
    location /gzip/ {
        quickblox app1;
        gzip on;
        gzip_types application/json;
        gzip_min_length 1;
        proxy_pass %%BACKEND%%;
    }
    location /application/ {
        quickblox app2;
        quickblox_session application;
        quickblox_application_access write;
        proxy_pass %%BACKEND%%;
    }
    location /either/ {
        quickblox app2;
        quickblox_session client user;
        proxy_pass %%BACKEND%%;
    }
    location /header/ {
        quickblox app2;
        quickblox_header X-Session;
        proxy_set_header QB-Token $quickblox_token;
        proxy_pass %%BACKEND%%;
    }
    location /abort/ {
        quickblox app4;
        proxy_pass %%BACKEND%%;
    }
    location /down/ {
        quickblox app6;
        proxy_pass %%BACKEND%%;
    }
    location /down-page/ {
        quickblox app7;
        error_page 503 = @down;
        proxy_pass %%BACKEND%%;
    }
    location @down {
        return 200 "down for a while";
    }

    location /client/ {
        quickblox app8;
        quickblox_session client;
        proxy_pass %%BACKEND%%;

        location /client/unbuffered/ {
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_pass %%BACKEND%%;
        }
        location /client/page/ {
            error_page 401 /denied.html;
            proxy_pass %%BACKEND%%;
        }
        location /client/status/ {
            error_page 401 =302 /login;
            proxy_pass %%BACKEND%%;
        }
        location /client/redirect/ {
            error_page 401 =302 https://example.com/login;
            proxy_pass %%BACKEND%%;
        }
        location /client/named/ {
            error_page 401 = @named;
            proxy_pass %%BACKEND%%;
        }
    }
    location = /denied.html {
        internal;
        default_type text/plain;
        return 401 "a page for $request_uri";
    }
    location = /login {
        return 200 "please log in";
    }
    location @named {
        proxy_pass http://127.0.0.1:%%PORT_backend_2%%;
    }
}

server {
    listen 127.0.0.1:%%PORT_1%% http2;

    location / {
        quickblox app3;
        proxy_pass %%BACKEND%%;
    }
    location /abort/ {
        quickblox app5;
        proxy_pass %%BACKEND%%;
    }
    location /client/ {
        quickblox app8;
        quickblox_session client;
        proxy_pass %%BACKEND%%;
    }
}
END

my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';

my $FIVE_MB = join '', map { pack 'N', $_ * 2654435761 % 2 ** 32 }
    1 .. 5 * 1024 * 256;
my $SMALL = "name=value&\0\r\n\xff";

# The lines of the access log for a path, once there are as many.
sub logged ($path, $count = 1) {
    my @lines;

    $t->wait_for(sub {
        @lines = grep { index($_, "$path ") == 0 } split /\n/, $t->access_log;
        @lines >= $count;
    }, "log line of $path");

    return @lines;
}

# What is of no interest left out.
sub fields ($res) {
    return sort map { "$_->[0]: $_->[1]" }
        grep { $_->[0] !~ /^(?:Server|Date|Connection)$/i } @{$res->pairs};
}


# The replay, and all that goes to the backend.  A case: its name, where, the
# body, how it is sent, and what is particular about the expired response.

my $number = 0;

sub replays ($name, $under, %case) {
    my $path = $under . ++$number . '?a=%2F%20b&c=/d/../e';
    my $bare = $path =~ s/\?.*//r;
    my $body = $case{body} // '';
    my %send = %{$case{send} // {}};

    my $ask = $case{h2} ? sub ($path, %opt) { $t->h2($path, %opt,
            port => $t->port(1)) }
        : sub ($path, %opt) { $t->request(path => $path, %opt) };

    my $old = $ask->("$under-warm")->json->{token};

    $api->expire_all;
    $api->reset_calls;
    $backend->answer($bare, token => $old, %{$case{answer}})
        if $case{answer};

    my $res = $case{how} ? $case{how}->($path)
        : $ask->($path, %send, defined $case{body} ? (body => $body) : ());

    my $content = $res->body;
    IO::Uncompress::Gunzip::gunzip(\$res->{body} => \$content)
        if ($res->header('Content-Encoding') // '') eq 'gzip';
    my $told = Gateway::Response->new(body => $content)->json // {};

    is_deeply [$res->status, $res->header('X-Seen'),
            @$told{qw(body_length body_sha256 hit)}],
        [200, '1|MISS', length $body, sha256_hex($body), 2],
        "$name: the answer to the second request";

    my @requests = $backend->requests($bare);
    my @tokens = map { $_->header('QB-Token') } @requests;
    my @live = map { $_->{token} } $api->sessions;

    is_deeply [map { [$_->{uri}, $_->{body_sha256}] } @requests],
        [([$path, sha256_hex($body)]) x 2],
        "$name: two requests of the same resource, with the same body";

    # Nothing but the token differs: no header twice, none lost, none moved.
    my @heads = map { $requests[$_]{head} =~ s/\Q$tokens[$_]\E/TOKEN/gr }
        keys @requests;

    is $heads[1], $heads[0], "$name: with the same head";
    is_deeply \@tokens, [$old, $live[0]],
        "$name: first with the old token, then with the new one";
    is_deeply $api->counts, {'POST /session.json' => 1},
        "$name: after one login";
    is_deeply [logged($path)], ["$path 200 [401 : 200] [1] MISS"],
        "$name: one line in the access log";

    $backend->heal;

    return $res;
}

sub expect ($path) {
    my $client = $t->client;
    $client->start(method => 'POST', path => $path, headers => [
        ['Expect', '100-continue'], ['Content-Length', length $SMALL]]);
    like $client->read_until(qr/\r\n\r\n/), qr{^HTTP/1.1 100 },
        'the client may go on';
    return $client->send($SMALL)->finish;
}

replays('GET', '/');
replays('GET, old protocol', '/', send => {version => '1.0'});
replays('GET, many headers', '/', send => {
    headers => [map { ["X-Header-$_", 'v' x (10 * $_)] } 1 .. 40]});
replays('POST', '/', body => $SMALL);
replays('POST of 5 MB', '/', body => $FIVE_MB);
replays('POST in chunks', '/', body => $SMALL, send => {chunked => 1});
replays('POST of 5 MB in chunks', '/', body => $FIVE_MB,
    send => {chunked => 10_000});
replays('POST of nothing', '/', body => '');
replays('POST of nothing in chunks', '/', body => '', send => {chunked => 1});
replays('Expect: 100-continue', '/', body => $SMALL, how => \&expect);
replays('PUT', '/', body => $SMALL, send => {method => 'PUT'});
replays('DELETE', '/', send => {method => 'DELETE'});
replays('DELETE with a body', '/', body => $SMALL,
    send => {method => 'DELETE'});
replays('PATCH', '/', body => $SMALL, send => {method => 'PATCH'});

my $kept = replays('keepalive to the backend', '/1.1/', body => $SMALL);
replays('keepalive, 5 MB', '/1.1/', body => $FIVE_MB);
is $kept->json->{version}, '1.1', 'that was HTTP/1.1';

replays('proxy_buffering off', '/unbuffered/');
replays('proxy_buffering off, 5 MB', '/unbuffered/', body => $FIVE_MB);

my $gzip = replays('gzip', '/gzip/',
    send => {headers => [['Accept-Encoding', 'gzip']]});
is $gzip->header('Content-Encoding'), 'gzip', 'gzip: the answer is';

replays('source "application"', '/application/', body => $SMALL);
replays('sources "client user"', '/either/', body => $SMALL);
replays('another header, and a variable', '/header/', body => $SMALL);

for my $under ('/1.1/', '/unbuffered/') {
    replays("401 in single bytes, $under", $under,
        answer => {split => 'each'});
    replays("401 in chunks, $under", $under, answer => {chunked => 7});
    replays("401 in chunks each its own, $under", $under,
        answer => {chunked => 20, split => [20, 40]});
    replays("401 up to the end of the connection, $under", $under,
        answer => {no_length => 1});
}

replays('HTTP/2, GET', '/', h2 => 1);
replays('HTTP/2, POST', '/', h2 => 1, body => $SMALL);
replays('HTTP/2, POST of 5 MB', '/', h2 => 1, body => $FIVE_MB);
replays('HTTP/2, POST of nothing', '/', h2 => 1, body => '');
replays('HTTP/2, PUT', '/', h2 => 1, body => $SMALL,
    send => {method => 'PUT'});
replays('HTTP/2, DELETE', '/', h2 => 1, send => {method => 'DELETE'});
replays('HTTP/2, 401 in single bytes', '/', h2 => 1, body => $SMALL,
    answer => {split => 'each'});

# The connection goes on with what the client sent meanwhile.
$api->expire_all;

my $pipe = $t->client;
$pipe->send($pipe->format(method => 'POST', path => '/pipe/1', body => $SMALL,
        keepalive => 1) . $pipe->format(path => '/pipe/2'));
my @piped = ($pipe->finish, $pipe->finish);

is_deeply [map { $_->json->{uri} } @piped], ['/pipe/1', '/pipe/2'],
    'pipelined requests are answered in their order';
is_deeply [map { $_->header('X-Seen') } @piped], ['1|MISS', '|HIT'],
    'the first was replayed, the second knows nothing of it';
is_deeply [map { $backend->hits("/pipe/$_") } 1, 2], [2, 1],
    'nothing of it was sent twice';


# The API fails between the two: 503, and the request was sent once.

my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

$t->get($_) for '/down/', '/down-page/';
$api->expire_all;
$backend->reset;
$api->fail(endpoint => 'POST /session.json', status => 500);

my ($down, $page) = map { $t->post($_, $SMALL) } '/down/', '/down-page/';

is_deeply [$down->status, $down->body], [503, $UNAVAILABLE],
    'no new session: unavailable';
is_deeply [fields($down)], [sort
    'Cache-Control: no-store',
    'Content-Length: ' . length $UNAVAILABLE,
    'Content-Type: application/json',
    'Retry-After: 1',
    'X-Seen: 1|ERROR',
], 'no new session: with our headers, and none of the upstream\'s';
is_deeply [(logged('/down/', 2))[1]], ['/down/ 503 [401] [1] ERROR'],
    'no new session: one line in the access log';
is_deeply [$page->status, $page->body], [200, 'down for a while'],
    'no new session: an error page';

$api->heal;

for ('/down/', '/down-page/') {
    is $backend->hits($_), 1, "no new session: sent once, $_";
    $t->wait_for(sub { $t->get($_)->body =~ /"hit"/ }, 'recovery');
}


# A client's session is mapped to the client's own re-authentication.

my @mapped = (
    [GET => {}],
    [POST => {body => $SMALL}],
    ['POST of 5 MB' => {body => $FIVE_MB}],
    ['POST in chunks' => {body => $SMALL, chunked => 1}],
    ['401 in single bytes' => {}, '/client/', {split => 'each'}],
    ['401 in chunks' => {}, '/client/', {chunked => 9}],
    ['unbuffered' => {body => $SMALL}, '/client/unbuffered/'],
    ['unbuffered, in chunks' => {body => $FIVE_MB, chunked => 10_000},
        '/client/unbuffered/'],
    ['HTTP/2' => {h2 => 1}],
    ['HTTP/2, POST of 5 MB' => {h2 => 1, body => $FIVE_MB}],
    ['client before user' => {}, '/either/', undef, 'app2'],
);

for (@mapped) {
    my ($name, $send, $under, $answer, $app) = @$_;
    my %send = %$send;
    my $path = ($under //= '/client/') . ++$number;
    my $token = $api->session(user_id => 100);
    my $h2 = delete $send{h2};

    my $ask = sub { $h2 ? $t->h2($path, token => $token, %send,
            port => $t->port(1))
        : $t->request(path => $path, token => $token, %send) };

    is $ask->()->status, 200, "client, $name: a live token";

    $api->expire($token);
    $api->reset_calls;
    $backend->answer($path, %$answer) if $answer;

    my $res = $ask->();

    is_deeply [$res->status, $res->body], [401, $EXPIRED],
        "client, $name: the 401 of an expired session";
    is_deeply [map { lc =~ s/:.*//r . s/^[^:]*//r } fields($res)], [sort
        'cache-control: no-store',
        'content-length: ' . length $EXPIRED,
        'content-type: application/json',
        sprintf('www-authenticate: QuickBlox realm="%s"', $app // 'app8'),
        'x-seen: |REJECTED',
    ], "client, $name: with our headers, and none of the upstream's";
    is_deeply [$backend->hits($path), $api->calls], [2, 0],
        "client, $name: sent once, nobody asked";
    is_deeply [(logged($path, 2))[1]], ["$path 401 [401] [-] REJECTED"],
        "client, $name: one line in the access log";

    # The backend's word is not the last one.  Without the body: curl takes a
    # refusal before it has sent one of 5 MB over HTTP/2 for an error.
    delete $send{body} if $h2;
    is $ask->()->status, 401, "client, $name: again";
    is_deeply $api->counts, {'GET /session.json' => 1},
        "client, $name: the validation was dropped, the API is asked";
    is $backend->hits($path), 2, "client, $name: and says no";

    $backend->heal;
}

my @pages = (
    # error_page, status, body, Location
    ['page', 401, qr{^a page for /client/page/$}, undef],
    ['status', 302, qr{^please log in$}, undef],
    ['redirect', 302, qr{302 Found}, 'https://example.com/login'],
);

for (@pages) {
    my ($page, $status, $body, $location) = @$_;
    my $token = $api->session(user_id => 100);
    my $path = "/client/$page/";

    $t->get($path, token => $token);
    $api->expire($token);
    my $res = $t->get($path, token => $token);

    is_deeply [$res->status, scalar $res->header('Location')],
        [$status, $location], "error_page: $page";
    like $res->body, $body, "error_page: $page, its body";
    is_deeply [$res->headers('Set-Cookie')], [],
        "error_page: $page, no cookie of the upstream";
}

# A named location keeps the method, and the body for an upstream of its own.
for my $body ($SMALL, $FIVE_MB) {
    my $token = $api->session(user_id => 100);
    my $size = length $body;

    $t->get('/client/named/', token => $token);
    $api->expire($token);
    my $res = $t->post("/client/named/$size", $body, token => $token);

    is $res->status, 200, "error_page: named location, $size bytes";
    is_deeply [map { [@$_{qw(method body_sha256)}] }
            $other->requests("/client/named/$size")],
        [['POST', sha256_hex($body)]],
        "error_page: named location, $size bytes, the body is there";
}

# A connection can be kept.
{
    my $client = $t->client;
    my $token = $api->session(user_id => 100);
    my @seen = map {
        $api->expire($token) if $_ == 2;
        $token = $api->session(user_id => 100) if $_ == 4;
        $client->post("/client/kept/$_", $SMALL, token => $token)->status;
    } 1 .. 4;

    is_deeply \@seen, [200, 401, 401, 200],
        'a mapped response leaves the connection in order';
}


# F23: a client goes away in the middle.

# Just enough of HTTP/2 to go away in the ways that there are.
sub frame ($type, $flags, $stream, $payload) {
    return substr(pack('N', length $payload), 1)
        . pack('CCN', $type, $flags, $stream) . $payload;
}

sub h2_start ($path) {
    my $client = $t->client(port => $t->port(1));
    $client->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, '')
        . frame(1, 5, 1, "\x82\x86\x04" . chr(length $path) . $path
            . "\x01\x09localhost"));
    return $client;
}

sub h1_start ($path) { return $t->start(path => $path) }

my @ways = (
    ['FIN', \&h1_start, sub ($client) { $client->close }],
    ['RST', \&h1_start, sub ($client) { $client->abort }],
    ['RST_STREAM', \&h2_start,
        sub ($client) { $client->send(frame(3, 0, 1, pack 'N', 8)) }],
    ['FIN of HTTP/2', \&h2_start, sub ($client) { $client->close }],
);

my @states = (
    ['while the 401 is read', sub ($path) {
        $backend->answer($path, times => 1, pieces => [
            substr($EXPIRED, 0, 40), substr $EXPIRED, 40], step => 1);
    }, sub {
        $backend->wait_held(1);
        $backend->release;
        $backend->wait_held(1);
    }, 499, 1],
    ['while the login is held', sub ($path) {
        $api->fail(endpoint => 'POST /session.json', hold => 1);
    }, sub { $api->wait_held(1) }, 499, 0],
    ['while the second request is held', sub ($path) {
        $backend->answer($path, hold => 1);
        $backend->answer($path, times => 1);
    }, sub { $backend->wait_held(1) }, 499, 0],
    ['while the answer is sent', sub ($path) {
        $backend->answer($path, pieces => ['first', 'second'], step => 1,
            headers => [['X-Accel-Buffering', 'no']]);
        $backend->answer($path, times => 1);
    }, sub {
        $backend->wait_held(1);
        $backend->release;
        $backend->wait_held(1);
    }, 200, 0],
);

for my $state (@states) {
    my ($when, $prepare, $await, $status, $later) = @$state;

    for (@ways) {
        my ($name, $start, $leave) = @$_;
        my $path = '/abort/' . ++$number;
        my $again = $start == \&h2_start
            ? sub { $t->h2('/abort/next', port => $t->port(1)) }
            : sub { $t->get('/abort/next') };

        $again->();
        $api->expire_all;
        $api->reset_calls;
        $prepare->($path);

        my $client = $start->($path);
        $await->();
        $leave->($client);

        like +(logged($path))[0], qr/^\Q$path\E $status /,
            "F23: $name $when: the request ends";

        $api->heal;
        $backend->heal;
        $api->release;
        $backend->release;

        my $res = $again->();

        is $res->status, 200, "F23: $name $when: the next one is served";
        like $res->header('X-Seen'),
            $later ? qr/^1\|MISS$/ : qr/^\|(?:HIT|WAIT)$/,
            "F23: $name $when: and finds the session as it was left";
        is_deeply $api->counts, {'POST /session.json' => 1},
            "F23: $name $when: one login in all";
    }
}

# Half of those who wait for one login go away, whoever began it.
{
    $t->get('/abort/next');
    $api->expire_all;
    $api->reset_calls;
    $backend->reset;
    $backend->answer('*', times => 20, hold => 1);
    $api->fail(endpoint => 'POST /session.json', hold => 1);

    my @clients = map { $t->start(path => "/abort/w$_", body => $SMALL) }
        1 .. 20;
    $backend->wait_held(20);
    $backend->release;
    $api->wait_held(1);

    $clients[$_]->abort for 0 .. 9;
    logged("/abort/w$_") for 1 .. 10;
    $api->release;

    is_deeply [map { $_->finish->status } @clients[10 .. 19]], [(200) x 10],
        'F23: who waits is served though others have gone';
    is_deeply $api->counts, {'POST /session.json' => 1},
        'F23: by one login';
    is $backend->hits, 20 + 10, 'F23: those who have gone are not replayed';

    $api->heal;
}

$t->done;
