# What a refused client gets, for every row of the table of the design that
# needs no other module: status, body, header fields and log line, over each
# version of HTTP, with and without a body, and as gRPC has it.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA ();
use Gateway;
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

# An application of its own for each failure of the API: back-off is one's own.
my $application = sub ($name, %own) {
    my %conf = (
        api => '%%API%%',
        application_id => 92,
        auth_key => 'wJHd4cQSxpQGWx5',
        auth_secret => 'jyqGNhbGxkvBTgd',
        zone => 'quickblox',
        %own,
    );

    return "quickblox_application $name {\n"
        . join('', map { "    $_ $conf{$_};\n" } sort keys %conf) . "}\n";
};

my $closed = $t->closed_port;

$t->nginx($application->('chat', zone => 'quickblox 1m',
        api_key => 'Canary-Api-Key-92', on_behalf_of => '$arg_as')
    . $application->('down', api => "http://127.0.0.1:$closed")
    . $application->('slow', timeout => '200ms')
    . $application->('nonsense')
    . $application->('busy')
    . $application->('wrong', auth_secret => 'Canary-Wrong-Secret')
    . <<'END_OF_CONFIGURATION');
map $quickblox_user_id $alice {
    6 1;
    default 0;
}

map $quickblox_user_id $nobody {
    default "";
}

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;

    client_max_body_size 2m;
    add_header X-Cors always-there always;
    quickblox chat;

    location / {
        proxy_pass %%BACKEND%%;
    }
    location /any {
        quickblox_require any;
        proxy_pass %%BACKEND%%;
    }
    location /zero {
        quickblox_require user $alice;
        proxy_pass %%BACKEND%%;
    }
    location /empty {
        quickblox_require user $nobody;
        proxy_pass %%BACKEND%%;
    }
    location /key {
        quickblox_session api_key;
        proxy_pass %%BACKEND%%;
    }
    location /down {
        quickblox down;
        proxy_pass %%BACKEND%%;
    }
    location /slow {
        quickblox slow;
        proxy_pass %%BACKEND%%;
    }
    location /nonsense {
        quickblox nonsense;
        proxy_pass %%BACKEND%%;
    }
    location /busy {
        quickblox busy;
        proxy_pass %%BACKEND%%;
    }
    location /wrong {
        quickblox wrong;
        quickblox_session application;
        proxy_pass %%BACKEND%%;
    }
}
END_OF_CONFIGURATION

sub base ($text) { return qq({"errors":{"base":["$text"]}}) }

my %token = (
    bob => $api->session(user_id => 5),
    application => $api->session,
    foreign => $api->session(application_id => 93, user_id => 5),
    unknown => 'f00d' x 10,
    slow => $api->session(user_id => 5),
    nonsense => $api->session(user_id => 5),
    busy => $api->session(user_id => 5),
);

$t->secret($token{unknown});

$api->fail(endpoint => 'GET /session.json', token => $token{slow},
    blackhole => 1);
$api->fail(endpoint => 'GET /session.json', token => $token{nonsense},
    body => '{"session":');
$api->fail(endpoint => 'GET /session.json', token => $token{busy},
    status => 429, headers => [['Retry-After', 40]]);

$backend->answer('/expired', status => 401,
    headers => [['Set-Cookie', 'upstream=1'], ['X-Upstream', 1],
        ['WWW-Authenticate', 'Basic realm="upstream"']],
    body => base('Required session does not exist'));

my $required = '{"errors":["Token is required"]}';
my $expired = base('Required session does not exist');
my $need_user = base('Forbidden. Need user.');
my $unavailable = base('Service is temporarily unavailable');

# Name, path, header fields, status, body, and what else is special: the
# methods that it is about, hits at the backend, Retry-After.
my @cases = (
    ['no token', '/', [], 401, $required],
    ['an empty token', '/', [['QB-Token', '']], 401, $required],
    ['an unknown token', '/', [['QB-Token', $token{unknown}]], 401,
        $expired],
    ['an impossible token', '/', [['QB-Token', 'bad<token>!']], 401,
        $expired],
    ['another application', '/', [['QB-Token', $token{foreign}]], 403,
        base('Session belongs to another application')],
    ['an application session', '/', [['QB-Token', $token{application}]],
        403, $need_user],
    ['a write under one', '/any', [['QB-Token', $token{application}]], 403,
        $need_user, methods => ['POST']],
    ['a variable is 0', '/zero', [['QB-Token', $token{bob}]], 403,
        base('Forbidden')],
    ['a variable is empty', '/empty', [['QB-Token', $token{bob}]], 403,
        base('Forbidden')],
    ['on behalf of nobody', '/key', [], 403, base('Forbidden')],
    ['on behalf of no number', '/key?as=7a', [], 403, base('Forbidden')],
    ['two tokens', '/',
        [['QB-Token', $token{bob}], ['QB-Token', $token{unknown}]], 400,
        base('Two different tokens in one request')],
    ['the API is down', '/down', [['QB-Token', $token{bob}]], 503,
        $unavailable, retry => qr/^[1-9]\d?$/],
    ['too slow', '/slow', [['QB-Token', $token{slow}]], 503,
        $unavailable, retry => qr/^[1-9]\d?$/],
    ['answers nonsense', '/nonsense', [['QB-Token', $token{nonsense}]],
        503, $unavailable, retry => qr/^[1-9]\d?$/],
    ['has too much to do', '/busy', [['QB-Token', $token{busy}]], 503,
        $unavailable, retry => qr/^(?:40|3\d)$/],
    ['refuses the gateway', '/wrong', [], 503, $unavailable,
        retry => qr/^[1-9]\d?$/],
    ['a mapped expiry', '/expired', [['QB-Token', $token{bob}]], 401,
        $expired, hits => 1, methods => ['GET', 'POST']],
);

# All fields of a response but those that are the server's and connection's.
sub fields ($res) {
    return join "\n", sort map { lc($_->[0]) . ": $_->[1]" }
        grep { $_->[0] !~ /^(?:server|date|connection|retry-after)$/i }
        @{$res->pairs};
}

sub challenge ($path) {
    return 'QuickBlox realm="' . ($path =~ m{^/(wrong|down)} ? $1 : 'chat')
        . '"';
}

sub check ($res, $case, $what) {
    my ($name, $path, undef, $status, $body, %more) = @$case;

    is $res->status, $status, "$name, $what: status";
    is $res->body, $what =~ /HEAD/ ? '' : $body, "$name, $what: body";
    is fields($res), join("\n", 'cache-control: no-store',
        'content-length: ' . length $body, 'content-type: application/json',
        ($status == 401 ? 'www-authenticate: ' . challenge($path) : ()),
        'x-cors: always-there'), "$name, $what: header";

    my @retry = $res->headers('Retry-After');

    if ($more{retry}) {
        is @retry, 1, "$name, $what: Retry-After";
        like $retry[0], $more{retry}, "$name, $what: its value";

    } else {
        is "@retry", '', "$name, $what: no Retry-After";
    }

    return;
}

# A POST over HTTP/2 by nghttp, which tells the frames.
sub frames ($path, $headers) {
    my $body = $t->write('message', "\0\0\0\0\0");
    my $said = Gateway::_run('nghttp', '-v', '--no-dep', '-d', $body,
        (map { ('-H', lc($_->[0]) . ": $_->[1]") } ['te', 'trailers'],
            @$headers),
        'http://127.0.0.1:' . $t->port(1) . $path)->{stdout};

    my @headers;
    push @headers, [$1, $2]
        while $said =~ /recv \(stream_id=\d+\) (:?[^:\s]+): (.*)/g;

    my ($status) = map { $_->[1] } grep { $_->[0] eq ':status' } @headers;
    my ($text) = $said =~ /(\{"errors".*\})/;
    my ($flags) = $said =~ /recv HEADERS frame <[^>]*>\s+; (.*)/;

    my $res = Gateway::Response->new(
        status => $status,
        headers => [grep { $_->[0] ne ':status' } @headers],
        body => $text // '',
    );

    return ($res, join(' ', $said =~ /recv (HEADERS|DATA) frame/g), $flags);
}

for my $case (@cases) {
    my ($name, $path, $headers, undef, undef, %more) = @$case;
    my %can = map { $_ => 1 } @{$more{methods} // [qw(GET HEAD POST)]};
    my %req = (path => $path, headers => $headers);

    $backend->reset;
    my $n = 0;

    if ($can{GET}) {
        check($t->request(%req), $case, 'HTTP/1.1');
        check($t->request(%req, version => '1.0'), $case, 'HTTP/1.0');
        check($t->h2($path, port => $t->port(1), headers => $headers),
            $case, 'HTTP/2');
        $n += 3;
    }

    if ($can{HEAD}) {
        check($t->request(%req, method => 'HEAD'), $case, 'HEAD');
        check($t->h2($path, port => $t->port(1), headers => $headers,
            method => 'HEAD'), $case, 'HTTP/2 HEAD');
        $n += 2;
    }

    # What was not read of a body must not be taken for the next request.
    my $client = $t->client;
    my $body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" x 10_000;

    for my $how ([body => $body], [body => $body, chunked => 1], [body => ''])
    {
        check($client->request(%req, method => 'POST', @$how), $case,
            "POST of $how->[0]" . ($how->[2] ? ' in chunks' : ''));
        $n++;
    }

    # It takes no empty header field.
    if (!grep { !length $_->[1] } @$headers) {
        check((frames($path, $headers))[0], $case, 'HTTP/2 POST');
        $n++;
    }

    is $backend->hits, $more{hits} ? $n : 0,
        "T12: $name: " . ($more{hits} ? 'all' : 'none') . ' got further';
}

# A client that asks first need not send its body.
{
    my $client = $t->client;

    $client->send(join "\r\n", 'POST / HTTP/1.1', 'Host: a',
        'Content-Length: 5', 'Expect: 100-continue', '', '');
    my $res = $client->finish;
    check($res, $cases[0], 'Expect: 100-continue');
    is @{$res->interim}, 0, 'Expect: 100-continue: the body is not asked for';
    $client->send('12345');
    check($client->get('/'), $cases[0], 'and the next request');
}


# T55: refusals in gRPC's own form

for my $type ('application/grpc', 'application/grpc+proto',
    'Application/gRPC')
{
    for my $case (
        ['/', [], 16, 'Token is required'],
        ['/', [['qb-token', $token{unknown}]], 16,
            'Required session does not exist'],
        ['/', [['qb-token', $token{foreign}]], 7,
            'Session belongs to another application'],
        ['/', [['qb-token', $token{application}]], 7,
            'Forbidden. Need user.'],
        ['/zero', [['qb-token', $token{bob}]], 7, 'Forbidden'],
        ['/down', [['qb-token', $token{bob}]], 14,
            'Service is temporarily unavailable'],
        ['/expired', [['qb-token', $token{bob}]], 16,
            'Required session does not exist'],
    ) {
        my ($path, $headers, $code, $text) = @$case;
        my ($res, $frames, $flags)
            = frames($path, [['content-type', $type], @$headers]);
        my $name = "T55: $type, $path, $text";

        is $frames, 'HEADERS', "$name: one frame";
        like $flags, qr/END_STREAM/, "$name: ends the stream";
        is $res->status, 200, "$name: status";
        is_deeply [map { $res->header($_) } qw(content-type grpc-status
            grpc-message x-cors cache-control)],
            ['application/grpc', $code, $text, 'always-there', 'no-store'],
            "$name: header";
    }
}

check((frames('/', [['content-type', 'application/graphql']]))[0],
    $cases[0], 'T55: a content type that only begins alike');

# Over HTTP/1.1, as grpc-web comes from browsers, it is a whole response.
{
    my $client = $t->client(timeout => 2);

    for (1, 2) {
        my $res = $client->post('/', "\0\0\0\0\0",
            headers => [['Content-Type', 'application/grpc-web+proto']]);

        is_deeply [$res->complete, $res->status, $res->header('grpc-status'),
            $res->body], [1, 200, 16, ''],
            'T55: over HTTP/1.1, and the connection is kept'
            or diag $res->error // '', $res->raw;
    }
}


# What is logged, and as whose affair

sub digest ($token) { return substr Digest::SHA::sha256_hex($token), 0, 8 }

for my $case (
    ['Token is required', 'chat', 'client'],
    ['Required session does not exist', 'chat', 'client', 'unknown'],
    ['Session belongs to another application', 'chat', 'client', 'foreign'],
    ['Forbidden. Need user.', 'chat', 'client', 'application'],
    ['Forbidden', 'chat', 'client', 'bob'],
    ['Forbidden', 'chat', 'api_key'],
    ['Two different tokens in one request', 'chat', 'client', 'bob'],
) {
    my ($text, $application, $source, $of) = @$case;
    my $line = "quickblox refused: $text, application: \"$application\", "
        . "source: $source" . ($of ? ', token: ' . digest($token{$of}) : '')
        . ', client: 127.0.0.1, server: ';

    like $t->error_log, qr/ \[info\] \d+#\d+: \*\d+ \Q$line\E/,
        "a line at info: $text of $source";
}

is scalar(() = $t->error_log
    =~ /\[(?:notice|warn|error)\][^\n]* quickblox refused/g), 0,
    'at no other level';

for my $name (qw(down slow nonsense busy wrong)) {
    is scalar(() = $t->error_log
        =~ /\[error\][^\n]* quickblox application "$name": API call/g), 1,
        "one error line of the application \"$name\"";
}

is scalar(() = $t->error_log =~ /\[error\][^\n]* application "chat"/g), 0,
    'and none for what clients did';

$t->done;
