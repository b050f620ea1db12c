# quickblox_login: JSON and form bodies, statuses and limits (T24: no password
# in a file or log), what the API may answer (T70), sessions that are always
# fresh (T31), adopted or upgraded, handed out, and redirects (T33).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Gateway::H2;
use List::Util qw(uniq);
use Mojo::JSON qw(decode_json encode_json);
use Mojo::Util qw(url_escape);
use Test::More;

my $CREATE = 'POST /session.json';
my $CHECK = 'GET /session.json';
my $UPGRADE = 'POST /login.json';

my $UNAUTHORIZED = '{"errors":["Unauthorized"]}';
my $DEAD = '{"errors":{"base":["Required session does not exist"]}}';
my $FOREIGN
    = '{"errors":{"base":["Session belongs to another application"]}}';
my $NEED_USER = '{"errors":{"base":["Forbidden. Need user."]}}';
my $FORBIDDEN = '{"errors":{"base":["Forbidden"]}}';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

my $JSON = 'application/json';
my $FORM = 'application/x-www-form-urlencoded';

# Beyond ASCII, and what a form has to escape.
my $password = "Canary-p\xc3\xa4ss:w\xc3\xb6rd+&=%41 \"\\";

my $t = Gateway->new;
my $api = $t->api(users => [
    ['gateway', 'Canary-Gateway-Pw', 1],
    ['bob', 'Canary-Bob-Pw', 5, 'bob@example.com'],
    ['alice', 'Canary-Alice-Pw', 6],
]);
my $backend = $t->backend;

$api->user(id => 7, login => 'carol', password =>
    do { my $text = $password; utf8::decode($text); $text });
$t->secret($password, 'Canary-Wrong-Pw', map { "Canary-Pw-$_" } 1 .. 20);

chmod 0600, $t->write('key', '0123456789abcdef' x 4);

# What fails backs off the application, so each failure has one of its own.
my @failures = (
    ['500', status => 500],
    ['502, HTML', status => 502, body => '<html>'],
    ['503', status => 503],
    ['429', status => 429, headers => [['Retry-After', 7]]],
    ['no answer', blackhole => 1],
    ['reset', reset => 'before'],
    ['cut', cut => 'body'],
    ['no HTTP', raw => "Canary\r\n\r\n"],
);

my $applications = join '', map { <<"END" } 0 .. $#failures;
quickblox_application failing$_ {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    zone failing$_ 64k;
    timeout 400ms;
    cookie_key %%DIR%%/key;
}
END

my $locations = join '', map { <<"END" } 0 .. $#failures;
    location = /failing$_ {
        quickblox failing$_;
        quickblox_login;
    }
END

my $configuration = <<'END';
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
    cookie_key %%DIR%%/key;
    cookie qb "Path=/; HttpOnly";
}

quickblox_application down {
    api http://127.0.0.1:%%PORT_closed%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    zone down 64k;
    cookie_key %%DIR%%/key;
}

quickblox_application hosts {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    zone hosts 64k;
    cookie_key %%DIR%%/key;
}

add_header X-Status "$quickblox_status $quickblox_user_id" always;
keepalive_requests 10000;

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;

    quickblox chat;
    client_body_buffer_size 1k;
    client_body_in_file_only on;

    location = /login {
        quickblox_login;
    }
    location = /token {
        quickblox_login token;
    }
    location = /application {
        quickblox_login token application;
    }
    location = /small {
        client_max_body_size 60;
        quickblox_login;
    }
    location = /unlimited {
        client_max_body_size 0;
        quickblox_login;
    }
    location = /page {
        quickblox_login;
        error_page 401 =302 /login-page;
    }
    location = /proxied {
        quickblox_login;
        error_page 400 401 403 405 413 415 = /front/page;
    }
    location = /redirected {
        quickblox_login;
        error_page 401 =303 https://example.com/login;
    }
    location = /origin {
        quickblox_login;
        quickblox_origin https://app.example.com;
    }
    location = /hosts {
        quickblox hosts;
        quickblox_login;
    }
    location = /down {
        quickblox down;
        quickblox_login;
    }
    location = /if {
        quickblox_login;
        if ($arg_a) {
            add_header X-If yes always;
        }
    }
    location = /limited {
        client_body_timeout 300ms;
        quickblox_login;
    }

    location = /login-page {
        quickblox off;
        return 200 "the login page";
    }
    location /front/ {
        quickblox off;
        proxy_pass %%BACKEND%%;
    }
    location /c/ {
        quickblox_session client cookie;
        quickblox_require any;
        quickblox_application_access write;
        proxy_pass %%BACKEND%%;
    }
    location /application/ {
        quickblox_session application;
        proxy_pass %%BACKEND%%;
    }
END

$t->closed_port;
my $http = "$applications$configuration$locations}";
my $nginx = $t->nginx($http);

sub login ($body, %opt) {
    my $type = $opt{type} // ($body =~ /^\s*[{\[]/ ? $JSON : $FORM);

    return $t->request(method => 'POST', path => '/login', body => $body,
        %opt, headers => [
            length $type ? ['Content-Type', $type] : (),
            @{$opt{headers} // []},
        ]);
}

sub body (%fields) { return encode_json(\%fields) }

sub form (@pairs) {
    my @fields;

    while (my ($name, $value) = splice @pairs, 0, 2) {
        push @fields, "$name=" . url_escape($value);
    }

    return join '&', @fields;
}

my @bob = (login => 'bob', password => 'Canary-Bob-Pw');
my $bob = form(@bob);

sub cookie ($res) {
    return (($res->header('Set-Cookie') // '') =~ /^(qb=[^;]+)/)[0] // '';
}

# Status and body of a refusal, and that all of it is as it should be.
sub refused ($res, $status, $body, $name) {
    my @wrong;

    push @wrong, 'status ' . $res->status if $res->status != $status;
    push @wrong, 'body ' . substr $res->body, 0, 200
        if defined $body && $res->body ne $body;
    push @wrong, 'not the shape of QuickBlox: ' . substr $res->body, 0, 200
        if ref(($res->json // {})->{errors}) !~ /^(?:HASH|ARRAY)$/;
    push @wrong, 'type' if ($res->header('Content-Type') // '') ne $JSON;
    push @wrong, 'Cache-Control'
        if join(',', $res->headers('Cache-Control')) ne 'no-store';
    push @wrong, 'WWW-Authenticate'
        if join(',', $res->headers('WWW-Authenticate'))
            ne ($status == 401 ? 'QuickBlox realm="chat"' : '');
    push @wrong, 'Retry-After' if ($status == 503)
        != (($res->header('Retry-After') // '') =~ /^[1-9]\d*$/);
    push @wrong, 'Allow'
        if ($res->header('Allow') // '') ne ($status == 405 ? 'POST' : '');
    push @wrong, 'a cookie' if $res->headers('Set-Cookie');

    ok !@wrong, $name or diag join "\n", @wrong;

    return;
}

# Whose session the cookie is, as an upstream sees it: its token, and whether
# the API had to be asked.
sub seen ($cookie) {
    my $res = $t->get('/c/x', headers => [['Cookie', $cookie]]);

    return $res->status if $res->status != 200;
    return ($res->json->{token}, split / /, $res->header('X-Status'));
}

sub live ($token) {
    return (grep { $_->{token} eq $token } $api->sessions)[0];
}


# JSON and forms

my @good = (
    # a name, a body, its type, the user
    ['JSON', body(@bob), $JSON, 5],
    ['a form', $bob, $FORM, 5],
    ['JSON with an email', body(email => 'bob@example.com',
        password => 'Canary-Bob-Pw'), $JSON, 5],
    ['a form with an email', form(email => 'bob@example.com',
        password => 'Canary-Bob-Pw'), $FORM, 5],
    ['JSON with blanks', qq( {\n"password" : "Canary-Bob-Pw"\t,\r\n )
        . qq("login":"bob" }\n), $JSON, 5],
    ['JSON with escapes', '{"login":"\u0062ob","passw\u006frd":'
        . '"Canary\u002dBob-Pw"}', $JSON, 5],
    ['JSON with more members', body(@bob, remember => \1, a => [1, {}]),
        $JSON, 5],
    ['a form with more fields', "a=1&&=&b&$bob&csrf=%41", $FORM, 5],
    ['a form with escaped names', 'log%69n=bob&p%61ssword=Canary%2DBob-Pw',
        $FORM, 5],
    ['JSON beyond ASCII', encode_json({login => 'carol', password =>
        do { my $text = $password; utf8::decode($text); $text }}), $JSON, 7],
    ['JSON beyond ASCII, escaped', '{"login":"carol","password":'
        . '"Canary-p\u00e4ss:w\u00f6rd+&=%41 \"\\\\"}', $JSON, 7],
    ['a form beyond ASCII', form(login => 'carol', password => $password),
        $FORM, 7],
    ['a form with plus signs', 'login=carol&password=' . (url_escape($password)
        =~ s/%20/+/gr), $FORM, 7],
    ['a type with a charset', body(@bob), "$JSON; charset=utf-8", 5],
    ['a type without a blank', $bob, "$FORM;charset=UTF-8", 5],
    ['a type in capitals', $bob, uc $FORM, 5],
    ['JSON type in capitals', body(@bob), 'Application/JSON', 5],
);

for my $case (@good) {
    my ($name, $body, $type, $user) = @$case;

    $api->reset_calls;
    my $res = login($body, type => $type);

    is $res->status, 200, "$name: 200";
    like $res->body, qr/^\{"session":\{"application_id":92,"user_id":$user,
        "type":"user","expires_at":\d+\}\}$/x, "$name: the object, no token";
    is $res->header('Content-Type'), $JSON, "$name: is JSON";
    is_deeply [$res->headers('Cache-Control')], ['no-store'],
        "$name: no-store";
    like join(',', $res->headers('Set-Cookie')),
        qr/^qb=[\w-]+; Path=\/; HttpOnly$/, "$name: one cookie";

    my ($token, $status) = seen(cookie($res));
    my $session = live($token);

    is $status, 'HIT', "$name: the next request is a HIT";
    is_deeply $api->counts, {$CREATE => 1}, "$name: the API was asked once";
    is $session->{user_id}, $user, "$name: user $user";
    is $res->json->{session}{expires_at}, $session->{expires},
        "$name: the time is that of the session";
    unlike $res->raw, qr/\Q$token/, "$name: the token is not in the answer";
}

is login($bob)->header('Referrer-Policy'), 'no-referrer',
    'T24: what follows does not tell where it came from';


# What is no login

my @malformed = (
    '{', '[]', '["bob"]', '"bob"', 'null', '1', 'nonsense', '{}{}',
    body(@bob) . 'x', '{"login":"bob","password":"a",}', "{'login':'bob'}",
    '{"login":"bob"}', '{"email":"bob@example.com"}', '{"login":""}',
    '{"password":"Canary-Wrong-Pw"}', '{}', '{"redirect":"/"}',
    '{"login":"bob","email":"bob@example.com","password":"Canary-Bob-Pw"}',
    '{"login":"bob","login":"bob","password":"Canary-Bob-Pw"}',
    '{"login":"bob","l\u006fgin":"bob","password":"Canary-Bob-Pw"}',
    (map { ("{\"login\":$_,\"password\":\"Canary-Bob-Pw\"}",
        "{\"login\":\"bob\",\"password\":$_}") } 1, 'true', 'null', '["bob"]',
        '{"a":"bob"}', '"b\u0000b"', "\"a\0\"", '"\ud800"', ''),
    '{"token":1}', '{"login":"bob","password":"Canary-Bob-Pw","token":null}',
    '{"user":{"login":"bob","password":"Canary-Bob-Pw"}}',
    '[' x 8000, '{"a":' x 3000,
);

my @malformed_forms = (
    'login=bob', 'password=Canary-Wrong-Pw', 'login', 'a=b', '&', '=',
    "$bob&login=bob", "$bob&password=Canary-Bob-Pw", "$bob&email=",
    "$bob&email=bob\@example.com", "$bob&lo%67in=x",
    "$bob&redirect=/&redirect=/",
    'login=bob&password=%', 'login=bob&password=%4', 'login=bob&password=%zz',
    'login=bob&password=%00Canary-Bob-Pw', "login=bob\0&password=x",
    "$bob&%=1", 'user[login]=bob&user[password]=Canary-Bob-Pw',
);

$api->reset_calls;

refused(login($_->[1], type => $_->[0]), 400, undef,
    'malformed: ' . substr($_->[1], 0, 70) =~ s/[^ -~]/./gr)
    for (map { [$JSON, $_] } @malformed),
        (map { [$FORM, $_] } @malformed_forms), [$JSON, $bob],
        [$FORM, body(@bob)], [$JSON, ''], [$FORM, ''], ['', ''];

is $api->calls, 0, 'malformed: the API was not asked';

my @types = ('text/plain', 'text/plain;charset=UTF-8', 'multipart/form-data',
    'application/jsonx', 'application/json+x', 'application/x-json',
    "x$FORM", "${FORM}x", 'application', '*/*', ';', "$JSON,$FORM", '');

refused(login($bob, type => $_), 415, undef, "415: type \"$_\"") for @types;
refused(login($bob, type => '', chunked => 1), 415, undef,
    '415: a chunked body without a type');
refused(login(body(@bob), type => '', headers => [['Content-Type', '']]),
    415, undef, '415: an empty type');

for my $method (qw(GET HEAD PUT PATCH DELETE OPTIONS PROPFIND)) {
    my $res = $t->request(method => $method, path => '/login');

    is $res->status, 405, "405: $method";
    is $res->header('Allow'), 'POST', "405: $method: Allow";
    is $res->header('Cache-Control'), 'no-store', "405: $method: no-store";
    refused($res, 405, undef, "405: $method: the shape")
        if $method ne 'HEAD';
}

refused(login($bob, method => 'PUT'), 405, undef, '405: PUT with a login');

# What comes first, where several things are wrong.
refused(login('{', method => 'PUT', type => 'text/plain', headers =>
    [['Origin', 'https://evil.example']]), 405, undef, '405 before 403');
refused(login('{', type => 'text/plain', headers => [['Origin', 'null']]),
    403, $FORBIDDEN, '403 before 415');
refused(login('x' x 20_000, type => 'text/plain'), 415, undef,
    '415 before 413');


# T31: origins

my @origins = (
    # headers; what comes of it at /login and at /origin
    [[], 200, 200],
    [[['Origin', 'http://localhost']], 200, 403],
    [[['Origin', 'http://localhost:80']], 200, 403],
    [[['Origin', 'https://localhost']], 403, 403],
    [[['Origin', 'http://localhost:8080']], 403, 403],
    [[['Origin', 'http://sibling.localhost']], 403, 403],
    [[['Origin', 'http://localhost.evil.example']], 403, 403],
    [[['Origin', 'https://app.example.com']], 403, 200],
    [[['Origin', 'https://APP.example.com']], 403, 200],
    [[['Origin', 'https://app.example.com.evil.example']], 403, 403],
    [[['Origin', 'null']], 403, 403],
    [[['Origin', '']], 403, 403],
    [[['Origin', 'http://localhost'], ['Origin', 'https://evil.example']],
        403, 403],
    [[['Sec-Fetch-Site', 'same-origin']], 200, 200],
    [[['Sec-Fetch-Site', 'none']], 200, 200],
    [[['Sec-Fetch-Site', 'same-site']], 403, 403],
    [[['Sec-Fetch-Site', 'cross-site']], 403, 403],
    [[['Origin', 'http://localhost'], ['Sec-Fetch-Site', 'cross-site']],
        200, 403],
);

for my $case (@origins) {
    my ($headers, @expected) = @$case;

    for my $path ('/login', '/origin') {
        my $expected = shift @expected;
        my $name = "T31: $path: " . join ', ', map { "$_->[0] $_->[1]" }
            @$headers;

        $api->reset_calls;
        my $res = login($bob, path => $path, headers => $headers);

        $expected == 200 ? is($res->status, 200, $name)
            : refused($res, 403, $FORBIDDEN, $name);
        is $api->calls, $expected == 200 ? 1 : 0, "$name: the API";
    }
}


# Limits

sub padded ($type, $size) {
    my $body = $type eq $JSON ? body(@bob) : $bob;

    return $body . '&' . 'p' x ($size - length($body) - 1)
        if $type eq $FORM;

    return $body =~ s/\}$/' ' x ($size - length $body) . '}'/er;
}

for my $type ($JSON, $FORM) {
    for my $size (1023, 1024, 1025, 16383, 16384, 16385, 20_000, 1_100_000) {
        for my $how ('a length', 'chunks', 'HTTP/2', 'HTTP/2 chunks') {
            my $name = "$size bytes, $how, $type";
            my $body = padded($type, $size);
            my @headers = (['Content-Type', $type], $how eq 'HTTP/2 chunks'
                ? ['Transfer-Encoding', 'chunked'] : ());

            next if $how =~ /HTTP/ && $size % 1024;

            my $res = $how =~ /HTTP/
                ? $t->h2('/login', port => $t->port(1), body => $body,
                    headers => \@headers)
                : login($body, type => $type,
                    $how eq 'chunks' ? (chunked => 700) : ());

            if ($size <= 16384) {
                is $res->status, 200, $name;
                is $res->header('cache-control'), 'no-store',
                    "$name: no-store";

            } else {
                refused($res, 413, undef, $name);
            }
        }
    }
}

for my $path ('/small', '/unlimited') {
    for my $case ([59, 200], [60, 200], [61, 413], [5000, 413],
        [17_000, 413])
    {
        my ($size, $status) = @$case;

        $status = 200 if $path eq '/unlimited' && $size < 16384;

        for my $chunked (0, 1) {
            my $name = "$path: $size bytes" . ($chunked ? ', chunked' : '');
            my $res = login(padded($FORM, $size), path => $path,
                chunked => $chunked);

            $status == 200 ? is($res->status, 200, $name)
                : refused($res, 413, undef, $name);
        }
    }
}

# Where nginx resets a stream whose body it has not read, as it does for each
# early answer, curl sometimes forgets the answer.
sub early (@request) {
    my $res;

    for (1 .. 100) {
        $res = $t->h2(@request);
        last if $res->complete;
    }

    return $res;
}

refused(early('/small', port => $t->port(1), body => padded($FORM, 61),
    headers => [['Content-Type', $FORM]]), 413, undef,
    'client_max_body_size, HTTP/2');
refused(early('/login', port => $t->port(1), body => padded($FORM, $_->[0]),
    headers => [['Content-Type', $FORM], @$_[1 .. $#$_]]), 413, undef,
    "$_->[0] bytes, HTTP/2") for [16385], [30_000],
        [16385, ['Transfer-Encoding', 'chunked']];

# A body that is too large is not waited for.
for my $head ("Content-Length: 1000000\r\n",
    "Transfer-Encoding: chunked\r\n", "Content-Length: 16385\r\n")
{
    my $client = $t->client;

    $client->send("POST /login HTTP/1.1\r\nHost: localhost\r\n"
        . "Content-Type: $FORM\r\n$head\r\n"
        . ($head =~ /chunked/ ? "4001\r\n" . 'a' x 16385 : ''));
    refused($client->finish(5), 413, undef, "413 at once: $head");
}


# Bodies in pieces

for my $chunked (0, 1) {
    my $client = $t->client;
    my $body = padded($JSON, 3000);
    my @pieces = unpack '(a40)*', $body;

    $client->send("POST /login HTTP/1.1\r\nHost: localhost\r\n"
        . "Content-Type: $JSON\r\nExpect: 100-continue\r\n" . ($chunked
            ? 'Transfer-Encoding: chunked' : 'Content-Length: '
                . length $body) . "\r\n\r\n");
    like $client->read_until(qr/\r\n\r\n/),
        qr{^HTTP/1.1 100 Continue\r\n\r\n$},
        'Expect: 100-continue: nginx asks for the body';

    for my $piece (@pieces) {
        $piece = sprintf "%x\r\n%s\r\n", length $piece, $piece if $chunked;

        # Apart where the time allows, or else together: both must work.
        $client->send($_), select undef, undef, undef, 0.0005
            for unpack '(a15)*', $piece;
    }

    $client->send("0\r\n\r\n") if $chunked;

    my $res = $client->finish;
    is $res->status, 200, 'a body in pieces' . ($chunked ? ', chunked' : '');
    isnt +(seen(cookie($res)))[0], undef, 'its session';
    is $client->post('/login', $bob, headers => [['Content-Type', $FORM]])
        ->status, 200, 'the connection goes on';
}

# Chunks that are none: what follows is no request.
for my $chunks ("", "zz\r\n", "3\r\nabcdef\r\n0\r\n\r\n", "-1\r\n\r\n",
    "ffffffffffffffffff\r\n", "5\r\nlogin\r\nzz\r\n")
{
    for my $apart (0, 1) {
        my $client = $t->client;
        my $name = 'broken chunks: ' . ($chunks =~ s/\r\n/ /gr)
            . ($apart ? ', later' : '');

        $client->send("POST /login HTTP/1.1\r\nHost: localhost\r\n"
            . "Content-Type: $FORM\r\nTransfer-Encoding: chunked\r\n"
            . ($apart ? "Expect: 100-continue\r\n" : '') . "\r\n");
        $client->read_until(qr/ 100 .*?\r\n\r\n/s) if $apart;
        $client->send("${chunks}GET /login-page HTTP/1.1\r\n"
            . "Host: localhost\r\n\r\n");

        my $res = $client->finish(5);
        like $res->status, qr/^(?:400|413)$/, $name;
        refused($res, $res->status, undef, "$name: the shape");
        unlike $client->read_all(5), qr/login page/, "$name: and no more";
    }
}

for my $case ([413, 'Content-Length: 20000', "Content-Type: $FORM"],
    [415, 'Content-Length: 20', 'Content-Type: text/plain'],
    [403, 'Content-Length: 20', 'Origin: https://evil.example'])
{
    my ($status, @head) = @$case;
    my $client = $t->client;

    $client->send(join "\r\n", 'POST /login HTTP/1.1', 'Host: localhost',
        'Expect: 100-continue', @head, '', '');

    my $res = $client->finish(5);
    refused($res, $status, undef, "Expect: 100-continue: $status");
    is @{$res->interim}, 0, "$status: the body was not asked for";
}

{
    my $client = $t->client;

    $client->send("POST /login HTTP/1.1\r\nHost: localhost\r\n"
        . "Content-Type: $FORM\r\nContent-Length: " . length($bob)
        . "\r\n\r\n${bob}GET /login-page HTTP/1.1\r\nHost: localhost\r\n\r\n");
    is $client->finish->status, 200, 'a pipelined request: the login';
    is $client->finish->body, 'the login page', 'and what came behind it';

    is login($bob, version => '1.0')->status, 200, 'HTTP/1.0';

    $client = $t->client;
    $client->send("POST /limited HTTP/1.1\r\nHost: localhost\r\n"
        . "Content-Type: $FORM\r\nContent-Length: 50\r\n\r\nlogin=b");
    my $res = $client->finish(5);
    ok $res->status == 408 || $res->error eq 'closed',
        'a body that does not come: client_body_timeout'
        or diag $res->status, ' ', $res->error;
}

{
    my $res = $t->h2('/login', port => $t->port(1), body => $bob,
        headers => [['Content-Type', $FORM]]);

    is $res->status, 200, 'HTTP/2: 200';
    is_deeply $res->json->{session}{user_id}, 5, 'HTTP/2: the object';
    is +(seen(cookie($res)))[1], 'HIT', 'HTTP/2: the cookie';
    is $res->header('cache-control'), 'no-store', 'HTTP/2: no-store';

    refused($t->h2('/login', port => $t->port(1), body => '{',
        headers => [['Content-Type', $JSON]]), 400, undef, 'HTTP/2: 400');
    refused($t->h2('/login', port => $t->port(1), method => 'POST',
        headers => []), 400, undef, 'HTTP/2: no body');
    refused($t->h2('/login', port => $t->port(1), method => 'POST',
        headers => [['Content-Type', 'text/plain']]), 415, undef,
        'HTTP/2: 415');
}


# T31: a session of its own, whatever comes with the request

{
    my $first = login($bob);
    my ($old) = seen(cookie($first));
    my $chosen = $api->session;

    for my $headers ([], [['Cookie', cookie($first)]],
        [['QB-Token', $chosen]], [['Cookie', "qb=$chosen"]],
        [['Cookie', 'qb=garbage; qb=more']],
        [['Cookie', cookie($first)], ['QB-Token', $old]],
        [['QB-Token', $old], ['QB-Token', $chosen]])
    {
        my $name = 'T31: ' . (join(' and ', map { $_->[0] } @$headers)
            || 'nothing');

        $api->reset_calls;
        my $res = login(form(login => 'alice', password => 'Canary-Alice-Pw'),
            headers => $headers);
        my ($token, $status, $user) = seen(cookie($res));

        is $user, 6, "$name: the user who logged in";
        ok $token ne $old && $token ne $chosen, "$name: a fresh session";
        is_deeply $api->counts, {$CREATE => 1}, "$name: one call";
        is +($api->requests($CREATE))[0]->header('QB-Token'), undef,
            "$name: without the token";
    }

    is +(seen(cookie($first)))[0], $old, 'T31: the other one goes on';
    is live($chosen)->{user_id}, 0, 'T31: nobody logs in to a chosen one';

    my @cookies = map { cookie(login($bob)) } 1 .. 3;
    is uniq(map { (seen($_))[0] } @cookies), 3,
        'T31: each login of a user has a session';
}

{
    $api->fail(endpoint => $CREATE, hold => 1, times => 20);
    $api->reset_calls;

    my @clients = map { $t->start(method => 'POST', path => '/login',
        body => $bob, headers => [['Content-Type', $FORM]]) } 1 .. 20;

    $api->wait_held(20);
    $api->release;

    my @cookies = map { cookie($_->finish) } @clients;
    is uniq(@cookies), 20, '20 logins at once: 20 cookies';
    is uniq(map { (seen($_))[0] } @cookies), 20, 'and sessions';
    is_deeply $api->counts, {$CREATE => 20}, 'of 20 calls';
    $api->heal;
}


# T70: wrong logins back off nobody

my $no = '{"errors":{"base":["Canary-Refusal"]}}';
my @wrong = (
    # how the API refuses
    ['wrong', undef],
    ['401', {status => 401, body => $UNAUTHORIZED}],
    ['401, empty', {status => 401, body => ''}],
    ['401, "session does not exist"', {status => 401, body => $DEAD}],
    ['403', {status => 403, body => $no}],
    ['403, HTML', {status => 403, body => '<html>no</html>'}],
    ['422', {status => 422, body => $no}],
    ['422, an array', {status => 422, body => '{"errors":["Canary"]}'}],
    ['200 with errors', {status => 200, body => $no}],
    ['201 with errors', {status => 201, body => $no}],
    ['202 with errors', {status => 202, body => '{"errors":["Canary"]}'}],
);

# Nobody's refusal, but nobody else's affair either.
my @odd = (
    ['400', {status => 400, body => $no}],
    ['404', {status => 404, body => $no}],
    ['409', {status => 409, body => $no}],
    ['418', {status => 418, body => 'Canary'}],
    ['302', {status => 302, headers => [['Location', '/session.json']]}],
    ['204', {status => 204, body => ''}],
    ['200, {}', {status => 200, body => '{}'}],
    ['200, []', {status => 200, body => '[]'}],
    ['200, empty', {status => 200, body => ''}],
    ['200, null and errors', {status => 200,
        body => '{"session":null,"user":null,"errors":["Canary"]}'}],
    ['200, nonsense', {status => 200, body => 'Canary'}],
    ['201, HTML', {status => 201, body => '<html>'}],
    ['201, no user', {patch => {session => {user_id => 0}}}],
    ['201, another application',
        {patch => {session => {application_id => 93}}}],
    ['201, no token', {patch => {session => {token => 'short'}}}],
    ['201, session is an array', {status => 201, body => '{"session":[]}'}],
);

for my $endpoint ($CREATE, $UPGRADE) {
    for my $case ((map { [401, @$_] } @wrong), map { [503, @$_] } @odd) {
        my ($status, $name, $how) = @$case;

        next if $endpoint eq $UPGRADE && $how && ($how->{patch}
            || $name =~ /does not exist/);

        my $session = $api->session;

        $api->fail(endpoint => $endpoint, times => 1, %$how) if $how;
        $api->reset_calls;

        my $res = login(form(login => 'bob', password => $how
                ? 'Canary-Bob-Pw' : 'Canary-Wrong-Pw',
            $endpoint eq $UPGRADE ? (token => $session) : ()));

        refused($res, $status, $status == 401 ? $UNAUTHORIZED : $UNAVAILABLE,
            "T70: $endpoint: $name: $status");
        unlike $res->raw, qr/Canary/, "T70: $name: nothing of its text";
        is $api->calls($endpoint), 1, "T70: $name: one call";

        # Others go on at once: a login, and a token that is to be checked.
        my $other = $t->get('/c/x', token => $api->session(user_id => 6));

        is login($bob)->status . ' ' . $other->header('X-Status'),
            '200 MISS 6', "T70: $name: others go on";
        $api->heal;
    }
}

{
    my @pairs = map { login(form(@$_))->raw =~ s/^Date:.*?\n//mr }
        [login => 'nobody', password => 'Canary-Wrong-Pw'],
        [login => 'bob', password => 'Canary-Wrong-Pw'],
        [email => 'nobody@example.com', password => 'Canary-Wrong-Pw'],
        [login => 'bob', password => ''], [login => '', password => 'x'];

    is uniq(@pairs), 1, 'a wrong login and a wrong password look the same'
        or diag @pairs;
    is login($bob)->status, 200, 'and the right one is not held back';

    my @clients = map { $t->start(method => 'POST', path => '/login',
        body => form(login => 'bob', password => "Canary-Pw-$_"),
        headers => [['Content-Type', $FORM]]) } 1 .. 20;
    my $other = $t->get('/c/x', token => $api->session(user_id => 5));

    is $other->header('X-Status'), 'MISS 5', 'T70: 20 wrong logins at once';
    is_deeply [map { $_->finish->status } @clients], [(401) x 20],
        'are refused';
}


# The API fails

for my $i (0 .. $#failures) {
    my ($name, %how) = @{$failures[$i]};

    $api->fail(endpoint => $CREATE, %how);

    my $res = login($bob, path => "/failing$i");
    refused($res, 503, $UNAVAILABLE, "the API: $name: 503");
    is $res->header('Retry-After'), 7, 'with its own Retry-After'
        if $name eq '429';

    $api->heal;
    $api->reset_calls;
    refused(login($bob, path => "/failing$i"), 503, $UNAVAILABLE,
        "the API: $name: and for a while");
    is $api->calls, 0, "the API: $name: it is left alone";
}

refused(login($bob, path => '/down'), 503, $UNAVAILABLE, 'the API is down');
refused(login(form(token => 'a' x 40), path => '/down'), 503, $UNAVAILABLE,
    'the API is down: adopt');


# Adopt a session made elsewhere

{
    my $token = $api->session(user_id => 6);
    $api->reset_calls;

    for my $body (body(token => $token), form(token => $token)) {
        my $res = login($body);
        is $res->status, 200, 'adopt: 200';
        like $res->body, qr/^\{"session":\{"application_id":92,"user_id":6,
            "type":"user","expires_at":\d+\}\}$/x, 'adopt: the object';
        is_deeply [seen(cookie($res))], [$token, 'HIT', 6],
            'adopt: the cookie is that session';
    }

    is_deeply $api->counts, {$CHECK => 2}, 'adopt: asked about each time';

    # Behind the gateway's back it becomes bob's.
    my $res = $t->request(port => $api->port, method => 'POST',
        path => '/login.json', token => $token,
        json => {login => 'bob', password => 'Canary-Bob-Pw'});
    is $res->status, 202, 'adopt: another user logs in on it';
    like login(body(token => $token))->body, qr/"user_id":5,/,
        'adopt: whose it is by then';

    my $app = $api->session;
    my $foreign = $api->session(user_id => 5, application_id => 93);
    my $ended = $api->session(user_id => 5);
    $api->expire($ended);

    $t->secret(my $short = 'Canary1', my $bad = 'Canary before,after');

    my @cases = (
        ['an application session', $app, 403, $NEED_USER],
        ['one of another application', $foreign, 403, $FOREIGN],
        ['one that has ended', $ended, 401, $DEAD],
        ['an unknown one', 'unknown-token-0', 401, $DEAD],
        ['an impossible one', $bad, 401, $DEAD],
        ['a short one', $short, 401, $DEAD],
        ['a long one', 'l' x 1025, 401, $DEAD],
        ['an empty one', '', 401, $DEAD],
    );

    for my $case (@cases) {
        my ($name, $value, $status, $body) = @$case;

        refused(login(body(token => $value)), $status, $body,
            "adopt: $name: $status");
    }

    # A refusal is not decided from what is cached.
    my $later = $api->session;
    is $t->get('/c/x', token => $later)->status, 200, 'known as an app\'s';
    $api->fail(endpoint => $CHECK, token => $later, times => 1,
        patch => {session => {user_id => 5}});

    # Within cache_invalid of the last check the cache decides.
    like login(body(token => $later))->status, qr/^(?:200|403)$/,
        'adopt: an answer is 5 s old at most';
    $api->heal;

    $api->fail(endpoint => $CHECK, status => 404, times => 1);
    refused(login(body(token => $api->session(user_id => 5))), 503,
        $UNAVAILABLE, 'adopt: the API answers nonsense');
    $api->heal;
}


# Upgrade an application session

{
    for my $type ('login', 'email') {
        my $token = $api->session;
        my @login = ($type => $type eq 'login' ? 'bob' : 'bob@example.com',
            password => 'Canary-Bob-Pw');

        $api->reset_calls;

        my $res = login(body(token => $token, @login));
        is $res->status, 200, "upgrade: by $type: 200";
        is_deeply [seen(cookie($res))], [$token, 'HIT', 5],
            'upgrade: the token is the same';
        is live($token)->{user_id}, 5, 'upgrade: and the user\'s now';
        is_deeply $api->counts, {$CHECK => 1, $UPGRADE => 1},
            'upgrade: two calls';

        my ($call) = $api->requests($UPGRADE);
        is $call->header('QB-Token'), $token, 'upgrade: with its token';
    }

    # It may have been used as it was.
    my $token = $api->session;
    is $t->get('/c/x', token => $token)->header('X-Status'), 'MISS ',
        'upgrade: used before';
    my $res = login(body(token => $token, @bob));
    is_deeply [seen(cookie($res))], [$token, 'HIT', 5],
        'upgrade: the cached one is replaced';
    is $t->get('/c/x', token => $token)->header('X-Status'), 'HIT 5',
        'upgrade: for the token itself, too';

    $token = $api->session;
    refused(login(body(token => $token, login => 'bob',
        password => 'Canary-Wrong-Pw')), 401, $UNAUTHORIZED,
        'upgrade: a wrong password');
    is live($token)->{user_id}, 0, 'upgrade: which changes nothing';

    $api->reset_calls;
    refused(login(body(token => 'unknown-token-1', @bob)), 401, $DEAD,
        'upgrade: no session');
    refused(login(body(token => $api->session(application_id => 93), @bob)),
        403, $FOREIGN, 'upgrade: one of another application');
    is $api->calls($UPGRADE), 0, 'upgrade: of these none was tried';

    $api->fail(endpoint => $UPGRADE, status => 401, body => $DEAD,
        times => 1);
    refused(login(body(token => $api->session, @bob)), 401, $DEAD,
        'upgrade: it has ended in between');
    $api->heal;
}


# token: handed to the client's SDK

{
    my $res = login($bob, path => '/token');
    my $token = $res->json->{session}{token};

    like $res->body, qr/^\{"session":\{"application_id":92,"user_id":5,
        "type":"user","expires_at":\d+,"token":"[0-9a-f]{40}"\}\}$/x,
        'token: the object has it';
    is_deeply [$res->headers('Set-Cookie')], [], 'token: and no cookie';
    is $res->header('Cache-Control'), 'no-store', 'token: no-store';
    is live($token)->{user_id}, 5, 'token: it is a user\'s';
    is $t->get('/c/x', token => $token)->header('X-Status'), 'HIT 5',
        'token: the next request is a HIT';

    $res = login("$bob&redirect=/a", path => '/token');
    is $res->status, 200, 'token: a redirect would lose it';
    isnt $res->json->{session}{token}, $token, 'token: a fresh one';

    refused(login('{}', path => '/token'), 400, undef,
        'token: no credentials');
    refused(login('', type => '', path => '/token'), 400, undef,
        'token: no body');

    my $app = $api->session;
    $res = login(body(token => $app, @bob), path => '/token');
    is $res->json->{session}{token}, $app, 'token: an upgraded one';
    is $res->json->{session}{user_id}, 5, 'token: with its user';
}

{
    my $shared = $t->get('/application/x')->json->{token};
    my @fresh;
    $api->reset_calls;

    for my $case (['', ''], ['{}', $JSON], ['', $JSON], ['', $FORM],
        ['{"a":1}', $JSON], ['a=b', $FORM])
    {
        my ($body, $type) = @$case;
        my $res = login($body, type => $type, path => '/application');

        like $res->body, qr/^\{"session":\{"application_id":92,"user_id":0,
            "type":"application","expires_at":\d+,
            "token":"[0-9a-f]{40}"\}\}$/x, "application: \"$body\" $type";
        is_deeply [$res->headers('Set-Cookie')], [],
            'application: no cookie';

        push @fresh, $res->json->{session}{token};
    }

    is_deeply $api->counts, {$CREATE => 6}, 'application: a call each';
    is uniq(@fresh, $shared), 7,
        'application: each has its own, and none the gateway\'s';
    is $t->get('/c/x', token => $fresh[0])->header('X-Status'), 'HIT ',
        'application: the next request is a HIT';

    # Its owner makes it a user's.
    my $res = login(body(token => $fresh[0], @bob), path => '/application');
    is $res->json->{session}{token}, $fresh[0], 'application: upgraded';
    is $t->get('/application/x')->json->{token}, $shared,
        'application: the gateway\'s is as it was';
    is live($shared)->{user_id}, 0, 'application: and nobody\'s';

    is login($bob, path => '/application')->json->{session}{user_id}, 5,
        'application: a login is one here, too';
    refused(login('{"login":"bob"}', path => '/application'), 400, undef,
        'application: half a login is malformed');
    refused(login('{', path => '/application'), 400, undef,
        'application: nonsense is malformed');
}


# T24: no password in a file

sub files {
    return glob $nginx->dir . '/client_body/*';
}

is_deeply [files()], [], 'T24: no body was written to a file';
is $t->post('/c/x', 'body', token => $api->session(user_id => 5))->status,
    200, 'T24: one of another request';
is @{[files()]}, 1, 'T24: is';
unlink files();


# error_page

{
    my $wrong = form(login => 'bob', password => 'Canary-Wrong-Pw');

    my $res = login($wrong, path => '/page');
    is $res->status, 302, 'error_page 401 =302: the status';
    is $res->body, 'the login page', 'error_page 401 =302: the page';
    is $res->header('Cache-Control'), 'no-store',
        'error_page 401 =302: no-store';
    is login($bob, path => '/page')->status, 200,
        'error_page: a good login has none of it';
    refused(login('{', path => '/page'), 400, undef,
        'error_page: of another status');

    $res = login($wrong, path => '/redirected');
    is $res->status, 303, 'error_page 401 =303: the status';
    is $res->header('Location'), 'https://example.com/login',
        'error_page 401 =303: the location';
    is $res->header('Cache-Control'), 'no-store',
        'error_page 401 =303: no-store';

    # The page is at a backend, which must not wait for a body.
    for my $case ([$wrong, 'a wrong login'], ['login', 'malformed'],
        [$wrong, 'chunked', chunked => 1],
        [$wrong, 'a foreign origin', headers => [['Origin', 'null']]],
        ['x' x 17_000, 'too large'],
        ['x' x 17_000, 'too large, chunked', chunked => 500],
        [$wrong, 'another type', type => 'text/plain'])
    {
        my ($body, $name, %opt) = @$case;

        $backend->reset;
        my $client = $t->start(method => 'POST', path => '/proxied',
            body => $body, %opt, headers => [
                ['Content-Type', $opt{type} // $FORM],
                @{$opt{headers} // []}]);
        my $res = $client->finish(5);

        is $res->status, 200, "error_page, proxied: $name";
        is $backend->hits, 1, 'error_page, proxied: by one request';
        is +($res->json // {})->{body_length}, 0,
            'error_page, proxied: without the body';
    }

    # A body that is not there yet must not be awaited, nor be taken for the
    # next request; one that is there leaves the connection as it was.
    for my $case (['none', 0, 'close'], ['a part', 5, 'close'],
        ['all', length $wrong, 'keep-alive'])
    {
        my ($name, $sent, $connection) = @$case;
        my $client = $t->client;

        $client->send("POST /proxied HTTP/1.1\r\nHost: localhost\r\n"
            . "Content-Type: text/plain\r\nContent-Length: "
            . length($wrong) . "\r\n\r\n" . substr $wrong, 0, $sent);
        my $res = $client->finish(5);

        is $res->header('Connection'), $connection,
            "refused, and $name of its body is there: the connection";
        is $res->json->{body_length}, 0,
            "refused, and $name of its body is there: none is handed on";

        $client->send((substr $wrong, $sent)
            . "GET /login-page HTTP/1.1\r\nHost: localhost\r\n\r\n");
        $sent < length $wrong ? ok($client->closed(5), 'it ends')
            : is($client->finish(5)->body, 'the login page', 'it goes on');
    }

    my $h2 = Gateway::H2->new(port => $t->port(1));
    my %post = (method => 'POST', path => '/proxied', body => $wrong,
        headers => [['content-type', 'text/plain']]);

    for my $end (1, 0) {
        my $res = $h2->finish($h2->start(%post, end => $end), 5);

        is $res->{status}, 200, "refused over HTTP/2, end $end: the page";
        is decode_json($res->{body})->{body_length}, 0,
            "refused over HTTP/2, end $end: without the body";
    }
}

for my $query ('', '?a=1') {
    my $res = login($bob, path => "/if$query");
    is $res->status . ($res->header('X-If') // ''), length $query
        ? '200yes' : '200', "in an \"if\": $query";
}


# Clients that go away

{
    my $aborted = 0;

    for my $how (qw(close abort)) {
        for my $part (0, 10, 1500) {
            my $client = $t->client;
            my $body = padded($FORM, 3000);

            $client->send("POST /login?aborted HTTP/1.1\r\n"
                . "Host: localhost\r\nContent-Type: $FORM\r\n"
                . "Expect: 100-continue\r\nContent-Length: 3000\r\n\r\n");
            $client->read_until(qr/\r\n\r\n/);
            $client->send(substr $body, 0, $part) if $part;
            $client->$how;
            $aborted++;
        }
    }

    $t->wait_for(sub {
        return $aborted == (() = $t->access_log =~ /login\?aborted/g);
    }, 'end of the aborted requests');
    pass 'aborted clients: half a body';

    $api->fail(endpoint => $CREATE, hold => 1, times => 3);
    $api->fail(endpoint => $UPGRADE, hold => 1, times => 2);
    $api->fail(endpoint => $CHECK, hold => 1, skip => 2, times => 2);

    my @clients = map { $t->start(method => 'POST', path => '/login',
        body => $_, headers => [['Content-Type', $FORM]]) }
        ($bob) x 3, (map { form(token => $api->session, @bob) } 1 .. 2);
    $api->wait_held(5);

    push @clients, map { $t->start(method => 'POST', path => '/login',
        body => form(token => $api->session(user_id => 5)),
        headers => [['Content-Type', $FORM]]) } 1 .. 2;
    $api->wait_held(7);

    $clients[$_]->abort for 0, 3, 5;
    $clients[$_]->close for 1, 4, 6;

    $t->wait_log(qr/(?:client .*closed connection.*?){6}/s);
    $api->release;
    is $clients[2]->finish->status, 200, 'aborted clients: another one stays';
    $api->heal;

    # Over HTTP/2 by resetting the stream.
    $api->fail(endpoint => $CREATE, hold => 1, times => 1);
    isnt $t->curl('-s', '--http2-prior-knowledge', '--max-time', 0.5, '-d',
        $bob, 'http://127.0.0.1:' . $t->port(1) . '/login')->{exit}, 0,
        'aborted clients: HTTP/2';
    $api->wait_held(1);
    $api->release;
    $api->heal;

    is login($bob)->status, 200, 'aborted clients: all goes on';
}


# T33: where a form may lead

is login(body(@bob, redirect => '/a'))->status, 200,
    'redirect: only of a form';

my @hosts = ('evil.example', 'evil.example/a', 'evil.example:80/?a=1#b',
    'user@evil.example', '[::1]/', '127.1', 'localhost.evil.example',
    'evil%2eexample', '%65vil.example', "evil\xe3\x80\x82example");
my @before = ('//', '///', '////', '/\\', '\\\\', '\\/', '\\', "/\t/",
    "\t//", "/\n/", "\r\n//", "//\t", ' //', '/ /', "\x0b//", "\x0c/",
    'http://', 'https://', 'HTTPS://', 'http:', 'http:/', 'https:\\\\',
    'ftp://', '//@',
    'javascript:alert(1)//', 'JavaScript:', "java\tscript:", 'data:text/html,',
    'vbscript:', 'mailto:', '', '.', '..', './', '../', '?', '#', '@', ':',
    ';//', '*//', "\xef\xbc\x8f\xef\xbc\x8f", "\xe2\x88\x95", "\xc0\xaf",
    "\x01//", "\x7f//", "\x80//", 'http:///', 'https:evil//', 'x//',
    '/.//', '/..//', '/%2f', '/%5c', '/%09/', '/%2F%2F', '/%00//', '/;//',
    '/?//', '/#//', '/@', '/:', '/a//', '/a/../..//', '/~', '/*');
my @targets = map { my $prefix = $_; map { "$prefix$_" } @hosts } @before;

push @targets, '', '/', '/a', '/a?b=c&d=%20e#f', '/a//b', '/a:b', '/?//a',
    '/#//a', '/a?u=https://evil.example/', '/-._~!$&\'()*+,;=:@%41',
    '/a' x 1000;

# Each byte at the beginning, at the second place and at the end.
push @targets, map { my $c = chr; ("${c}/a", "/${c}a", "/a$c") } 1 .. 255;

cmp_ok uniq(@targets), '>=', 800, 'T33: ' . @targets . ' targets';

sub allowed ($target) {
    return 0 if $target !~ m{^/(?!/)};
    return 0 if $target =~ /[\\\x00-\x1f\x7f]/;

    # What has to be escaped in a URL may be refused as well.
    return $target =~ /[^!-~]/ ? undef : 1;
}

my (%wrong, %taken);
my @connections = map { $t->client } 1 .. 8;
my @left = uniq(@targets);

while (my @batch = splice @left, 0, @connections) {
    $connections[$_]->start(method => 'POST', path => '/login',
        keepalive => 1, body => "$bob&redirect=" . url_escape($batch[$_],
            '^A-Za-z0-9'), headers => [['Content-Type', $FORM]])
        for 0 .. $#batch;

    for my $i (0 .. $#batch) {
        my $target = $batch[$i];
        my $res = $connections[$i]->finish;
        my @location = $res->headers('Location');
        my $allowed = allowed($target);

        $taken{$location[0] // ''}++;

        my $good = $res->status == 303 && @location == 1
            && (!$allowed && $location[0] eq '/'
                || ($allowed // 1) && $location[0] eq $target
                    && $target =~ /^[!-~]+$/)
            && $res->body eq '' && cookie($res)
            && ($res->header('Cache-Control') // '') eq 'no-store';

        $wrong{$target} = $res->raw if !$good;
    }
}

is_deeply \%wrong, {}, 'T33: only paths of this host, else "/"'
    or diag join "\n", map { explain $_ } (sort keys %wrong)[0 .. 3];
cmp_ok $taken{'/'}, '>=', 400, 'T33: many were none';
cmp_ok keys %taken, '>=', 200, 'T33: and many were';

refused(login("$bob&redirect=/%00//evil.example"), 400, undef,
    'T33: a zero byte is malformed');
refused(login("$bob&redirect=/%0"), 400, undef,
    'T33: so is half an escape');

{
    my $res = login("$bob&redirect=/a?b=1");
    is $res->header('Referrer-Policy'), 'no-referrer',
        'T33: the next page does not learn of this one';
    is +(seen(cookie($res)))[1], 'HIT', 'T33: a redirect, and logged in';

    refused(login(form(login => 'bob', password => 'Canary-Wrong-Pw',
        redirect => '/a')), 401, $UNAUTHORIZED,
        'T33: none after a wrong login');

    $res = $t->h2('/login', port => $t->port(1), body => "$bob&redirect=/a",
        headers => [['Content-Type', $FORM]]);
    is $res->status . $res->header('location'), '303/a', 'T33: HTTP/2';
    ok $res->complete, 'T33: HTTP/2: it ends there';

    $res = login("$bob&redirect=//evil.example/", host => 'evil.example');
    is $res->header('Location'), '/', 'T33: whatever Host says';
}


# T24: nor in a log of level debug, as done() finds

{
    $nginx->stop;
    $nginx = $t->nginx($http, level => 'debug');

    my $wrong = form(login => 'bob', password => 'Canary-Wrong-Pw');
    my %status;

    $status{login($_->[0], @$_[1 .. $#$_])->status}++ for [$bob], [body(@bob)],
        [form(login => 'carol', password => $password)], [$wrong],
        ["$bob&redirect=/a"], ["$bob&redirect=//Canary"], [$bob, chunked => 9],
        ["$bob&a=%"], ["$wrong&$bob"], ['{"password":"Canary-Bob-Pw"'],
        ['{"password":["Canary-Bob-Pw"]}'], [padded($FORM, 17_000)],
        [padded($FORM, 17_000), chunked => 9000], [padded($JSON, 9000)],
        [$bob, type => 'text/plain'], [$bob, method => 'PUT'],
        [$bob, headers => [['Origin', 'null']]], [$bob, path => '/token'],
        [$wrong, path => '/page'], [$wrong, path => '/proxied'],
        [body(token => $api->session, @bob)],
        [body(token => $api->session(user_id => 5))],
        [body(token => $api->session, login => 'bob',
            password => 'Canary-Wrong-Pw')],
        [$bob, path => '/small', headers => [['X-A', 'b' x 900]]],
        [$bob, path => '/down'];

    $t->h2('/login', port => $t->port(1), body => $_,
        headers => [['Content-Type', $FORM]]) for $bob, $wrong, "$bob&a=%";

    for my $how ({status => 401, body => 'Canary-Bob-Pw'}, {body => '{'},
        {status => 404, body => 'Canary-Bob-Pw'}, {status => 500})
    {
        $api->fail(endpoint => $CREATE, times => 1, %$how);
        $status{login($bob)->status}++;
    }

    $api->heal;
    is join(' ', sort keys %status), '200 302 303 400 401 403 405 413 415 503',
        'T24: all statuses at level debug';
    like $t->error_log, qr/\[debug\]/, 'T24: were logged so';
}

$t->done;
