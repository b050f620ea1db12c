# T08, T53: methods.  The decision is the same for each, but where the operator
# says otherwise: preflights let through, and limit_except.

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
my $users = $t->write('users', "good:{PLAIN}Canary-Oracle-Pw\n");

my $variables = join '|', map { "\$quickblox_$_" }
    qw(token user_id application_id session_type session_source expires
        replayed error);

my @limits = ('GET', 'OPTIONS', 'GET POST');

# limit_except with us in it, and with nginx's own "auth_basic".
my $limits = join '', map {
    my $name = tr/ /-/r;
    <<"END_OF_LOCATIONS";
    location /limit/$name/quickblox {
        limit_except $_ {
            quickblox chat;
        }
        proxy_pass %%BACKEND%%;
    }
    location /limit/$name/user {
        limit_except $_ {
            quickblox chat;
            quickblox_session user;
        }
        proxy_pass %%BACKEND%%;
    }
    location /limit/$name/header {
        quickblox_header X-Session;
        limit_except $_ {
            quickblox chat;
            quickblox_session user;
        }
        proxy_pass %%BACKEND%%;
    }
    location /limit/$name/inner-header {
        limit_except $_ {
            quickblox chat;
            quickblox_session user;
            quickblox_header X-Session;
        }
        proxy_pass %%BACKEND%%;
    }
    location /limit/$name/outer-off {
        quickblox chat;
        quickblox_session user;
        limit_except $_ {
            quickblox off;
        }
        proxy_pass %%BACKEND%%;
    }
    location /limit/$name/oracle {
        limit_except $_ {
            auth_basic oracle;
            auth_basic_user_file $users;
        }
        proxy_pass %%BACKEND%%;
    }
END_OF_LOCATIONS
} @limits;

$t->nginx(<<"END_OF_CONFIGURATION");
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
}

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;
    proxy_set_header X-Seen "$variables";

    location /protected {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
    location /denied {
        deny all;
        proxy_pass %%BACKEND%%;
    }
    location /public {
        proxy_pass %%BACKEND%%;
    }

    location /preflight/pass {
        quickblox chat;
        quickblox_session client user;
        quickblox_preflight pass;
        add_header X-Status \$quickblox_status always;
        proxy_pass %%BACKEND%%;

        location /preflight/pass/off {
            quickblox_preflight off;
            quickblox_session client;
            proxy_pass %%BACKEND%%;
        }
    }
    location /preflight/default {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }

$limits

    location /inherited/ {
        quickblox chat;
        limit_except OPTIONS {
            quickblox_session user;
        }
        proxy_pass %%BACKEND%%;
    }
    location /if {
        limit_except GET {
            quickblox chat;
            quickblox_session user;
        }
        if (\$arg_if) {
            set \$nothing "";
        }
        proxy_pass %%BACKEND%%;
    }
}
END_OF_CONFIGURATION

my $token = $api->session(user_id => 5);
my $required = '{"errors":["Token is required"]}';

sub lines (@headers) { return join "\n", map { "$_->[0]: $_->[1]" } @headers }

sub seen ($path) {
    my $request = $backend->last_request($path) or return 'nothing';

    return lines(grep { $_->[0] !~ /^(?:Host|Connection|Content-Length)$/ }
        @{$request->{headers}});
}

sub seen_lc ($path) {
    return lines(grep { $_->[0] !~ /^(?:host|connection|content-length|
        user-agent|accept|x-seen)$/x }
        map { [lc $_->[0], $_->[1]] }
        @{$backend->last_request($path)->{headers}});
}

sub held () {
    my ($session) = grep { $_->{user_id} == 1 } $api->sessions;

    return $session->{token} // '';
}


# T08: each method, without a token and with one

# CONNECT and TRACE end in nginx, wherever the request goes.
for my $method (qw(GET HEAD POST PUT DELETE OPTIONS PATCH PROPFIND MKCOL COPY
    MOVE LOCK UNLOCK PROPPATCH PURGE REPORT X GETX get), 'BAD_METHOD')
{
    for my $path ('/protected', '/denied') {
        $backend->reset;
        my $res = $t->request(method => $method, path => $path);
        my $public = $t->request(method => $method, path => '/public');
        my $body = $method eq 'HEAD' ? '' : $required;

        # What nginx itself takes for no method at all, is refused by it.
        my $status = $public->status != 200 ? $public->status
            : $path eq '/denied' ? 403 : 401;

        is $res->status, $status, "T08: $method $path without a token";
        is $res->body, $body, "T08: $method $path: body"
            if $status == 401;
        is $backend->hits($path), 0, "T08: $method $path: hits";
    }

    my $public = $t->request(method => $method, path => '/public');

    is $t->request(method => $method, path => '/protected',
        token => $token)->status, $public->status,
        "T08: $method with a token";
    is $backend->hits('/protected'), $public->status == 200 ? 1 : 0,
        "T08: $method with a token: hits";
}

for my $method (qw(GET HEAD POST PUT DELETE OPTIONS PATCH PURGE X)) {
    is $t->h2('/protected', port => $t->port(1), method => $method)->status,
        401, "T08: $method over HTTP/2";
}

for my $method (qw(TRACE CONNECT)) {
    $backend->reset;

    for my $path ('/protected', '/public') {
        like $t->raw("$method $path HTTP/1.1\r\nHost: a\r\n"
            . "QB-Token: $token\r\nConnection: close\r\n\r\n"),
            qr{^HTTP/1\.1 4(?:00|05) }, "T08: $method $path";
    }

    is $backend->hits, 0, "T08: $method: hits";
}

# HTTP/2 without :path, without :method, and whole: the last shows that the
# frames are right otherwise.
{
    # indexed fields :method: GET, :scheme: http, :path: /; then literal ones
    my ($method, $scheme) = ("\x82", "\x86");
    my $path = "\x04" . pack('C/a', '/protected');
    my $authority = "\x01" . pack('C/a', 'a');

    $backend->reset;

    for my $case (
        ['no :path', $method . $scheme . $authority],
        ['no :method', $scheme . $path . $authority],
        ['an empty :path', "$method$scheme\x04\x00$authority"],
        ['a relative :path', "$method$scheme\x04"
            . pack('C/a', 'protected') . $authority],
        ['two of :path', "$method$scheme$path$path$authority"],
    ) {
        my ($name, $block) = @$case;
        my $frame = sub ($type, $flags, $stream, $payload) {
            return substr(pack('N', length $payload), 1)
                . pack('CCN', $type, $flags, $stream) . $payload;
        };
        my $client = $t->client(port => $t->port(1));

        $client->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            . $frame->(4, 0, 0, '') . $frame->(1, 5, 1, $block)
            . $frame->(6, 0, 0, 'pingpong'));

        my $answer = $client->read_until(qr/pingpong/, 5);

        # HEADERS of a 400, or RST_STREAM
        like $answer, qr/\0\0.\x01[\x04\x05]\0\0\0\x01(?:\x20)?\x8c
            |\0\0\x04\x03\0\0\0\0\x01/xs, "T08: HTTP/2 with $name";
    }

    is $backend->hits, 0, 'T08: none of them got further';
    is $t->h2('/protected', port => $t->port(1), token => $token)->status,
        200, 'T08: and nginx serves on';
}


# Preflights

my @preflight = (['Origin', 'https://a.test'],
    ['Access-Control-Request-Method', 'POST'],
    ['Access-Control-Request-Headers', 'qb-token']);
my @copies = (['QB-Token', $token], ['qb_token', 'x'],
    ['On-Behalf-Of', 7], ['Authorization', 'ApiKey Canary-Sent-Key']);

$api->reset_calls;

for my $headers ([@preflight], [@preflight, @copies],
    [$preflight[0], $copies[0], @preflight[1, 2]])
{
    my $copies = @$headers > 3 ? ' with copies of the client\'s' : '';

    for my $how ('HTTP/1.1', 'HTTP/2') {
        my %req = (method => 'OPTIONS', headers => $headers);

        $backend->reset;
        my $res = $how eq 'HTTP/2'
            ? $t->h2('/preflight/pass', port => $t->port(1), %req)
            : $t->request(path => '/preflight/pass', %req);
        my $name = "a preflight$copies, $how";

        is $res->status, 200, "$name: passes";
        is $res->header('X-Status'), 'OFF', "$name: \$quickblox_status";
        is $backend->last_request('/preflight/pass')->header('X-Seen'),
            '|' x 7, "$name: no variables";
        is seen_lc('/preflight/pass'),
            lines(map { [lc $_->[0], $_->[1]] } @preflight),
            "$name: nothing injected, copies removed";
    }
}

is $api->calls, 0, 'T71: no session is obtained for preflights';

# No preflight: the session of "client user" is asked for.
for my $case (
    ['GET', \@preflight, 'another method'],
    ['POST', \@preflight, 'another method'],
    ['OPTIONS', [$preflight[0]], 'no Access-Control-Request-Method'],
    ['OPTIONS', [@preflight[1, 2]], 'no Origin'],
    ['OPTIONS', [], 'neither'],
) {
    my ($method, $headers, $name) = @$case;

    for my $path ('/preflight/pass/off', '/preflight/default') {
        $backend->reset;
        is $t->request(method => $method, path => $path,
            headers => $headers)->status, 401, "$method, $name, $path: 401";
        is $backend->hits, 0, "$method, $name, $path: hits";
    }

    is $t->request(method => $method, path => '/preflight/pass',
        headers => $headers)->status, 200, "$method, $name: passes";
    is $backend->last_request('/preflight/pass')->header('QB-Token'),
        held(), "$method, $name: with the gateway's session";
    is $t->request(method => $method, path => '/preflight/pass',
        headers => [@$headers, ['QB-Token', 'f00d' x 10]])->status, 401,
        "$method, $name: and with a bad token it does not";
}

for my $path ('/preflight/pass/off', '/preflight/default') {
    my $res = $t->request(method => 'OPTIONS', path => $path,
        headers => \@preflight);

    is $res->status, 401, "a preflight at $path";
    is $res->body, $required, "a preflight at $path: body";
}


# T53: limit_except

# With X-Session, as it is spelled in two of the locations.
my @spoofed = (['X-First', 1], ['QB-Token', 'Canary-Sent-Token'],
    ['On-Behalf-Of', 7], ['X-Session', 'Canary-Sent-Token'],
    ['Authorization', 'ApiKey Canary-Sent-Key'], ['X-Last', 2]);

for my $limit (@limits) {
    my $directory = '/limit/' . $limit =~ tr/ /-/r;
    my %free = map { $_ => 1 } split ' ', $limit;
    $free{HEAD} = 1 if $free{GET};

    for my $method (qw(GET HEAD POST PUT DELETE OPTIONS PATCH PURGE)) {
        for my $with ('token', 'none', 'spoofed') {
            my @headers = $with eq 'token' ? (['QB-Token', $token])
                : $with eq 'spoofed' ? @spoofed : ();
            my %req = (method => $method, headers => \@headers);
            my $name = "T53: limit_except $limit, $method, $with";

            $backend->reset;

            my $oracle = $t->request(path => "$directory/oracle", %req);
            my $res = $t->request(path => "$directory/quickblox", %req);

            is $oracle->status, $free{$method} ? 200 : 401,
                "$name: auth_basic";
            is $res->status, $free{$method} || $with eq 'token' ? 200 : 401,
                "$name: ours";
            is $backend->hits("$directory/quickblox"),
                $res->status == 200 ? 1 : 0, "$name: hits";

            if ($free{$method}) {
                is seen("$directory/quickblox"), lines(
                    ['X-Seen', '|' x 7],
                    ($with eq 'spoofed' ? @spoofed[0, 3, 5] : ()),
                ), "$name: copies are removed, variables empty";
            }

            for my $location (qw(user header inner-header outer-off)) {
                my $path = "$directory/$location";
                my $own = $location =~ /header/ ? 'X-Session' : 'QB-Token';
                my $given = $location eq 'outer-off' ? $free{$method}
                    : !$free{$method};

                is $t->request(path => $path, %req)->status, 200,
                    "$name, $location: passes";

                my @kept = $with ne 'spoofed' ? ()
                    : $location =~ /header/ ? @spoofed[0, 5]
                    : @spoofed[0, 3, 5];

                # "off" in a child strips nothing
                @kept = @headers if $location eq 'outer-off' && !$given;

                is seen($path) =~ s/^X-Seen:.*\n?//r, lines(@kept,
                    ($given ? [$own, held()] : ())),
                    "$name, $location: header";
            }
        }
    }
}

is $t->request(method => 'OPTIONS', path => '/inherited/a')->status, 401,
    'T53: what limit_except leaves is the location\'s';
is $t->request(method => 'POST', path => '/inherited/a')->status, 200,
    'T53: what it has inherits from the location';

# An "if" has a configuration of its own; nginx applies no limit_except there.
for my $path ('/if', '/if?if=1') {
    $backend->reset;
    is $t->get($path, headers => \@spoofed)->status, 200, "T53: $path";
    is seen('/if'), lines(['X-Seen', '|' x 7], @spoofed[0, 3, 5]),
        "T53: $path: copies are removed";
}

$t->done;
