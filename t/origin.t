# T51: from which pages a session's cookie may be used for more than reading,
# and the endpoints at all: "quickblox_origin", Origin and Sec-Fetch-Site, over
# HTTP, HTTPS and HTTP/2, and for WebSockets.  A request with a token in its
# header is never affected.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

chmod 0600, $t->write('key', 'd7' x 32);

my $application = <<'END';
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
    cookie qb Path=/;
    cookie_key %%DIR%%/key;
}
END

# The locations, what they have, and which of the origins below may write.
my %place = (
    default => ['', 'self'],
    self => ['quickblox_origin self;', 'self'],
    listed => ['quickblox_origin https://app.example.com '
        . 'http://localhost:3000;', 'listed'],
    both => ['quickblox_origin https://app.example.com self '
        . 'http://localhost:3000;', 'self', 'listed'],
);

my $endpoints = sub ($path) { <<"END" };
        location = $path/login { quickblox_login; }
        location = $path/logout { quickblox_logout; }
        location = $path/me { quickblox_check; }
END

my $locations = join '', map { <<"END" } sort keys %place;
    location /$_/ {
        $place{$_}[0]
        proxy_pass %%BACKEND%%;
        location /$_/inherits/ {
            proxy_pass %%BACKEND%%;
        }
        location /$_/cookie/ {
            quickblox_session cookie;
            proxy_pass %%BACKEND%%;
        }
${\ $endpoints->("/$_")}
    }
END

my $server = <<"END";
    quickblox chat;
    quickblox_session client cookie none;
    quickblox_application_access write;
    proxy_http_version 1.1;
    proxy_set_header Upgrade \$http_upgrade;
    proxy_set_header Connection \$connection_upgrade;
    proxy_read_timeout 20s;

    location / {
        proxy_pass %%BACKEND%%;
    }
$locations
    location /refused/ {
        error_page 403 =418 /page;
        proxy_pass %%BACKEND%%;
    }
    location /cors/ {
        add_header Access-Control-Allow-Origin \$http_origin always;
        proxy_pass %%BACKEND%%;
    }
    location /preflight/ {
        quickblox_preflight pass;
        proxy_pass %%BACKEND%%;
    }
    location /ports/ {
        quickblox_origin http://a.example:80 HTTPS://a.example:443
            http://b.example:443 https://b.example:80;
        proxy_pass %%BACKEND%%;
    }
    location = /page { return 200 page; }
    location = /login { quickblox_login; }
    location = /token { quickblox_login token; }
END

$t->nginx(<<"END");
$application

map \$http_upgrade \$connection_upgrade {
    default upgrade;
    ''      '';
}

keepalive_requests 100000;
ssl_certificate %%CERT%%;
ssl_certificate_key %%KEY%%;

server {
    listen 127.0.0.1:%%PORT_0%%;
$server
}
server {
    listen 127.0.0.1:%%PORT_1%% ssl;
$server
}
server {
    listen 127.0.0.1:%%PORT_2%% http2;
$server
}
END

my $FORBIDDEN = '{"errors":{"base":["Forbidden"]}}';
my $bob = $api->session(user_id => 5);
my $client = $t->client;

my ($cookie) = $client->request(path => '/login', json => {token => $bob})
    ->header('Set-Cookie') =~ /^(qb=[^;]+)/;
$t->secret(substr $cookie, 3);

# The client's Host is "localhost" unless another one is given.
my $OWN = 'http://localhost';

# Each way of saying where a request comes from, in headers, and what it is:
# of nobody (no browser), of its own, of a listed page, or foreign.
my @from = (
    # what, headers
    [nobody => 'no Origin'],
    [self => 'own', Origin => $OWN],
    [self => 'own in capitals', Origin => uc $OWN],
    [self => 'own with its port', Origin => "$OWN:80"],
    [listed => 'listed', Origin => 'https://app.example.com'],
    [listed => 'listed in capitals', Origin => 'HTTPS://APP.EXAMPLE.COM'],
    [listed => 'the other listed', Origin => 'http://localhost:3000'],
    [foreign => 'sibling', Origin => 'http://www.localhost'],
    [foreign => 'foreign', Origin => 'https://evil.example'],
    [foreign => 'null', Origin => 'null'],
    [foreign => 'empty', Origin => ''],
    [foreign => 'own, another scheme', Origin => 'https://localhost'],
    [foreign => 'own, a scheme of that length', Origin => 'ftps://localhost'],
    [foreign => 'own, another port', Origin => "$OWN:81"],
    [foreign => 'own, the port of HTTPS', Origin => "$OWN:443"],
    [foreign => 'own with more behind', Origin => "$OWN.evil.example"],
    [foreign => 'own with more before', Origin => 'http://evil-localhost'],
    [foreign => 'own as a user', Origin => "$OWN\@evil.example"],
    [foreign => 'own with a path', Origin => "$OWN/"],
    [foreign => 'own cut', Origin => 'http://localhos'],
    [foreign => 'own without a scheme', Origin => 'localhost'],
    [foreign => 'a scheme alone', Origin => 'http://'],
    [foreign => 'own and another', Origin => "$OWN https://evil.example"],
    [foreign => 'own and another header', Origin => $OWN,
        Origin => 'https://evil.example'],
    [foreign => 'another and own header', Origin => 'https://evil.example',
        Origin => $OWN],
    [foreign => 'own twice', Origin => $OWN, Origin => $OWN],
    [foreign => 'listed, another scheme', Origin => 'http://app.example.com'],
    [foreign => 'listed, another port',
        Origin => 'https://app.example.com:444'],
    [foreign => 'listed with more behind',
        Origin => 'https://app.example.com.evil.example'],
    [foreign => 'below the listed', Origin => 'https://x.app.example.com'],
    [foreign => 'the word', Origin => 'self'],
    # Sec-Fetch-Site counts where there is no Origin.
    [nobody => 'same-origin', 'Sec-Fetch-Site' => 'same-origin'],
    [nobody => 'none', 'Sec-Fetch-Site' => 'none'],
    [foreign => 'same-site', 'Sec-Fetch-Site' => 'same-site'],
    [foreign => 'cross-site', 'Sec-Fetch-Site' => 'cross-site'],
    [foreign => 'unknown site', 'Sec-Fetch-Site' => 'nonsense'],
    [foreign => 'no site', 'Sec-Fetch-Site' => ''],
    [foreign => 'two sites', 'Sec-Fetch-Site' => 'same-origin',
        'Sec-Fetch-Site' => 'cross-site'],
    [listed => 'listed, cross-site', Origin => 'https://app.example.com',
        'Sec-Fetch-Site' => 'cross-site'],
    [self => 'own, cross-site', Origin => $OWN,
        'Sec-Fetch-Site' => 'cross-site'],
    [foreign => 'foreign, same-origin', Origin => 'https://evil.example',
        'Sec-Fetch-Site' => 'same-origin'],
);

sub pairs (@values) {
    my @pairs;
    push @pairs, [splice @values, 0, 2] while @values;

    return @pairs;
}

sub allowed ($place, $kind) {
    my (undef, @allowed) = @{$place{$place}};

    return !!grep { $_ eq $kind } 'nobody', @allowed;
}


# Methods x origins x credentials x what is allowed

my @safe = qw(GET HEAD OPTIONS);
my @unsafe = qw(POST PUT PATCH DELETE PROPFIND LOCK FOO);
my %credentials = (
    cookie => [['Cookie', $cookie]],
    'cookie among others' => [['Cookie', "a=b; $cookie; c=d"]],
    token => [['QB-Token', $bob]],
    'token and cookie' => [['QB-Token', $bob], ['Cookie', $cookie]],
    nothing => [],
);

for my $place (sort keys %place) {
    for my $who (sort keys %credentials) {
        # The more curious ones where most is allowed.
        next if $who !~ /^(?:cookie|token)$/ && $place ne 'both';

        my (%wrong, $count, $seen);

        for my $from (@from) {
            my ($kind, $what, @headers) = @$from;

            for my $method (@safe, @unsafe) {
                my $path = "/$place/inherits/";
                my $passes = $who !~ /^cookie/ || $kind eq 'nobody'
                    || (grep { $_ eq $method } @safe)
                    || allowed($place, $kind);

                my $res = $client->request(method => $method, path => $path,
                    headers => [@{$credentials{$who}}, pairs(@headers)]);
                my $got = $res->status == 200 ? 'passes'
                    : $res->status . ' ' . $res->body;

                $count++;
                $seen++ if $passes;
                $wrong{"$method, $what"} = $got
                    if $got ne ($passes ? 'passes' : "403 $FORBIDDEN");
            }
        }

        is_deeply \%wrong, {}, "T51: $place: $who, $count requests";
        is $backend->hits("/$place/inherits/"), $seen,
            "T51: $place: $who: the backend has seen those that pass";
        $backend->reset;
    }
}

{
    my @headers = (['Cookie', $cookie], ['Origin', 'https://evil.example']);
    my $res = $client->post('/default/', 'x', headers => \@headers);

    is_deeply [$res->status, $res->body, map { scalar $res->header($_) }
        qw(Content-Type Cache-Control WWW-Authenticate Set-Cookie)],
        [403, $FORBIDDEN, 'application/json', 'no-store', undef, undef],
        'T51: what a refused page gets: the cookie is not cleared';

    $res = $client->post('/refused/', 'x', headers => \@headers);
    is_deeply [$res->status, $res->body], [418, 'page'],
        'T51: or what error_page says';
    is $client->post('/cors/', 'x', headers => \@headers)
        ->header('Access-Control-Allow-Origin'), 'https://evil.example',
        'T51: with the headers of CORS, so that a page can read it';

    is $client->post('/default/', 'x', headers => [['Cookie', 'qb=x'],
        $headers[1]])->status, 401,
        'T51: a cookie that does not open is no session';
    is $client->post('/default/cookie/', 'x', headers => [$headers[1]])
        ->status, 401, 'T51: nor is none';

    is $client->get('/default/a', headers => [['Cookie', $cookie]])->status,
        200, 'T51: and the cookie goes on';

    my $fresh = $api->session(user_id => 5);
    my ($other) = $client->request(path => '/login', json => {
        token => $fresh})->header('Set-Cookie') =~ /^(qb=[^;]+)/;
    $api->expire($fresh);
    $api->reset_calls;
    $client->post('/default/', 'x', headers => [['Cookie', $other],
        $headers[1]]) for 1 .. 3;
    is $api->calls, 0, 'T51: a refused page makes no calls';

    # A preflight is no request with a cookie yet.
    $res = $client->request(method => 'OPTIONS', path => '/preflight/',
        headers => [@headers, ['Access-Control-Request-Method', 'POST']]);
    is_deeply [$res->status, $res->json && $res->json->{token}], [200, ''],
        'T51: a preflight passes without a session';
}


# WebSockets: a GET that is more than reading, and needs no preflight

my @upgrade = (['Connection', 'Upgrade'], ['Upgrade', 'websocket'],
    ['Sec-WebSocket-Version', 13],
    ['Sec-WebSocket-Key', 'dGhlIHNhbXBsZSBub25jZQ==']);
$backend->answer('*', method => 'GET', upgrade => 1);

# Status, and what came back of what was sent.
sub upgraded ($place, @headers) {
    my $connection = $t->client;
    my $res = $connection->start(method => 'GET', path => "/$place/inherits/",
        keepalive => 1, headers => [@upgrade, @headers])->finish;

    return $res->status . ' ' . $res->body if $res->status != 101;

    $connection->send('over the socket');
    my $back = $connection->read_until(qr/over the socket/);
    $connection->close;

    return "101 $back";
}

for my $place (sort keys %place) {
    my %wrong;

    for my $from (@from) {
        my ($kind, $what, @headers) = @$from;

        for my $who (qw(cookie token)) {
            my $passes = $who eq 'token' || allowed($place, $kind);
            my $got = upgraded($place, @{$credentials{$who}},
                pairs(@headers));

            $wrong{"$who, $what"} = $got
                if $got ne ($passes ? '101 over the socket'
                    : "403 $FORBIDDEN");
        }
    }

    is_deeply \%wrong, {}, "T51: $place: WebSockets";
}

$backend->heal;

is $client->get('/default/', headers => [['Cookie', $cookie],
    ['Upgrade', 'h2c'], ['Origin', 'https://evil.example']])->status, 403,
    'T51: any upgrade';


# The endpoints: for all methods that they have, with a cookie or without

for my $place (sort keys %place) {
    my %wrong;

    for my $from (@from) {
        my ($kind, $what, @headers) = @$from;
        my $passes = allowed($place, $kind);
        my @pairs = pairs(@headers);

        my %got = (
            login => $client->request(path => "/$place/login",
                json => {token => $bob}, headers => \@pairs),
            'login with a cookie' => $client->request(
                path => "/$place/login", json => {token => $bob},
                headers => [@pairs, ['Cookie', $cookie]]),
            me => $client->get("/$place/me",
                headers => [@pairs, ['Cookie', $cookie]]),
            'me with a token' => $client->get("/$place/me",
                headers => [@pairs, ['QB-Token', $bob]]),
            logout => $client->post("/$place/logout", '',
                headers => \@pairs),
        );

        for my $how (sort keys %got) {
            my $status = $got{$how}->status;
            my $set = $got{$how}->headers('Set-Cookie');

            $wrong{"$how, $what"} = "$status, $set Set-Cookie"
                if $passes ? $status != 200
                    : $status != 403 || $got{$how}->body ne $FORBIDDEN
                        || $set;
        }
    }

    is_deeply \%wrong, {}, "T51: $place: endpoints";
}

is $client->post('/default/logout', '', headers => [['Cookie', $cookie],
    ['Origin', 'https://evil.example']])->status, 403,
    'T51: a foreign page logs nobody out';
is $client->get('/default/a', headers => [['Cookie', $cookie]])->status, 200,
    'T51: and so the session goes on';
is $client->request(path => '/token', json => {token => $bob},
    headers => [['Origin', 'https://evil.example']])->status, 403,
    'T51: a foreign page is handed no token';


# "self": the request's own scheme, host and port

my @self = (
    # scheme, Host, and the origins of such a page
    [http => 'localhost', 'http://localhost'],
    [http => 'localhost:80', 'http://localhost'],
    [http => 'localhost:8080', 'http://localhost:8080'],
    [http => 'LOCALHOST', 'http://localhost'],
    [http => '127.0.0.1', 'http://127.0.0.1'],
    [http => '[::1]', 'http://[::1]'],
    [http => '[::1]:8080', 'http://[::1]:8080'],
    [http => '[::1]:80', 'http://[::1]'],
    [https => 'localhost', 'https://localhost'],
    [https => 'localhost:443', 'https://localhost'],
    [https => 'localhost:8443', 'https://localhost:8443'],
    [https => 'app.example.com', 'https://app.example.com'],
);
my %origins = map { $_->[2] => 1 } @self;
my $tls = $t->client(port => $t->port(1), ssl => 1);

for my $case (@self) {
    my ($scheme, $host, $own) = @$case;

    # Others of the list may be of another port alone.
    my @passes = grep {
        my $origin = $_;
        ($scheme eq 'https' ? $tls : $client)->post('/default/', 'x',
            host => $host, headers => [['Cookie', $cookie],
                ['Origin', $origin]])->status == 200
    } sort keys %origins;

    is_deeply \@passes, [$own], "T51: self: $scheme, Host: $host: $own alone";
}

like $t->raw("POST /default/ HTTP/1.0\r\nCookie: $cookie\r\n"
    . "Origin: http://localhost\r\nContent-Length: 0\r\n\r\n"),
    qr{^HTTP/1\.1 403 }, 'T51: self: without Host there is no such page';

for my $origin ('http://127.0.0.1:' . $t->port(2), 'http://127.0.0.1',
    'https://evil.example', 'http://127.0.0.1:' . $t->port(0))
{
    is $t->h2('/default/', port => $t->port(2), method => 'DELETE',
        headers => [['Cookie', $cookie], ['Origin', $origin]])->status,
        $origin =~ /:${\ $t->port(2)}$/ ? 200 : 403,
        'T51: self: HTTP/2: ' . $origin =~ s/\d{4,}/port/r;
}


# A browser leaves out the port that is its scheme's own.
{
    my @origins = map { ($_, "$_:80", "$_:443") } map {
        ("http://$_.example", "https://$_.example")
    } qw(a b);

    is_deeply [grep {
        $client->post('/ports/', 'x', headers => [['Cookie', $cookie],
            ['Origin', $_]])->status == 200
    } @origins], [qw(http://a.example https://a.example
        http://b.example:443 https://b.example:80)],
        'T51: a port that browsers leave out may be written all the same';
}


# nginx -t

my $write = qr/write "self" or a scheme, a host and a port/;

for my $origin ('app.example.com', '*', 'https://', 'https://*.example.com',
    'https://app.example.com/', 'https://app.example.com/path',
    'https://a@b.example', '$http_origin', 'https://$host', 'null', '""',
    'ftp://app.example.com', 'https://ä.example', '"https://a b"', 'none',
    'https://a.example,https://b.example', 'self https://app.example.com/',
) {
    my ($ok, $output) = $t->test_config("$application\nserver { location / {\n"
        . "quickblox chat;\nquickblox_origin $origin;\n} }\n");
    my $shown = $origin =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;

    ok !$ok, "T40: quickblox_origin $shown is refused";
    like $output, qr/invalid origin ".*" in "quickblox_origin", $write/,
        'T40: and why';
}

for my $case (
    ['quickblox_origin;', qr/number of arguments/],
    ["quickblox_origin self;\nquickblox_origin self;",
        qr/"quickblox_origin" directive is duplicate/],
    ['if ($arg_a) { quickblox_origin self; }', qr/not allowed here/],
) {
    my ($text, $says) = @$case;
    my ($ok, $output) = $t->test_config("$application\nserver { location / {\n"
        . "$text\n} }\n");
    ok !$ok, 'T40: ' . $text =~ s/\n/ /r;
    like $output, $says, 'T40: and why';
}

for my $good ('self', 'https://app.example.com', 'http://localhost:3000',
    'https://[::1]:8443 self', 'HTTPS://App.Example.Com')
{
    for my $context ('%s', 'server { %s }', 'server { location / { %s } }',
        'server { location / { limit_except GET { %s } } }')
    {
        my ($ok, $output) = $t->test_config($application
            . sprintf $context, "quickblox_origin $good;");
        ok $ok, "T40: quickblox_origin $good in " . ($context =~ /(\w+) \{ %s/
            ? $1 : $context =~ /GET/ ? 'limit_except' : 'http')
            or diag $output;
    }
}

$t->done;
