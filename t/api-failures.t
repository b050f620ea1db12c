# Each way in which the API can fail (faults F01 to F14; F15 is in tls.t, F16
# in resolver.t): what is known already is served, nobody else is let through
# or told that his session is gone, and all is well again when the API is.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

my $GET = 'GET /session.json';
my $POST = 'POST /session.json';

my $session = '{"session":{"application_id":92,"user_id":5,'
    . '"token":"{{token}}"}}';
my $blanks = ' ' x 100_000;

# Failures that keep an application from calling for a while, so that each has
# applications of its own.  "calls": how often the API is asked in vain; a
# connection that breaks is worth a second try.
my @failing = (
    ['F03: 1 byte a second', {drip => 1}, slow => 1],
    ['F03: nothing for 10 s', {delay => 10}, slow => 1],
    ['F03: a head, then nothing', {step => 1, pieces => ['{', '}']},
        slow => 1],
    ['F04: reset before an answer', {reset => 'before'}, calls => 2],
    ['F04: reset in the head', {reset => 'headers'}, calls => 2],
    ['F04: reset in the body', {reset => 'body'}, calls => 2],
    ['F04: reset before the last byte', {reset => 'last'}, calls => 2],
    ['F04: closed before an answer', {cut => 'before'}, calls => 2],
    ['F04: closed in the head', {cut => 'headers'}, calls => 2],
    ['F04: closed in the body', {cut => 'body'}, calls => 2],
    ['F04: closed before the last byte', {cut => 'last'}, calls => 2],
    ['F05: 500', {status => 500,
        body => '{"status":"500","error":"Internal Server Error"}'},
        calls => 1],
    ['F05: 502', {status => 502}, calls => 1],
    ['F05: 503, maintenance', {status => 503, body => '<html>down</html>',
        headers => [['Content-Type', 'text/html']]}, calls => 1],
    ['F05: 503 with the text of an expiry', {status => 503,
        body => '{"errors":{"base":["Required session does not exist"]}}'},
        calls => 1],
    ['F05: 504', {status => 504}, calls => 1],
    ['F06: 429', {status => 429}, calls => 1],
    ['F11: 1 MB', {huge => 1_000_000}],
    ['F11: no end', {huge => 'endless'}],
    ['F11: more than Content-Length', {length => 10, close => 1}],
    ['F11: less than Content-Length', {length => 9000, close => 1}],
    ['F11: no end, no length', {huge => 'endless', no_length => 1}],
    ['F11: 100 KB behind a session', {body => "$session$blanks"}],
    ['F11: the same without a length',
        {body => "$session$blanks", no_length => 1}],
    ['F11: the same in chunks',
        {body => "$session$blanks", chunked => 5000}],
    ['F11: gzip', {gzip => 1}],
    ['F13: HTML', {body => '<html><body>Log in</body></html>',
        headers => [['Content-Type', 'text/html; charset=utf-8']]}],
    ['F13: a session as HTML', {headers => [['Content-Type', 'text/html']]}],
    ['F14: 101', {upgrade => 1}],
    ['F14: 1xx without end',
        {before => "HTTP/1.1 102 Processing\r\n\r\n" x 10_000}],
);

# The same in raw bytes: {J} is a good session object, {L} its length, {X} the
# same in hexadecimal, and two digits more without a length of its own.
my $chunks = "{X}\r\n{J}\r\n0\r\n\r\n";

push @failing, map { [$_->[0], $_->[1] =~ s{^\|}{HTTP/1.1 200 OK\r\n}r] } (
    ['F10: no HTTP', 'nonsense'],
    ['F10: HTTP/0.9', '{J}'],
    ['F10: HTTP/2', "HTTP/2 200 OK\r\nContent-Length: {L}\r\n\r\n{J}"],
    ['F10: status 600', "HTTP/1.1 600 OK\r\nContent-Length: {L}\r\n\r\n{J}"],
    ['F12: no size',
        "|Transfer-Encoding: chunked\r\n\r\nxx\r\n{J}\r\n0\r\n\r\n"],
    ['F12: a negative size',
        "|Transfer-Encoding: chunked\r\n\r\n-1\r\n{J}\r\n0\r\n\r\n"],
    ['F12: a size over 64 bits',
        "|Transfer-Encoding: chunked\r\n\r\n" . 'f' x 18
            . "\r\n{J}\r\n0\r\n\r\n"],
    ['F12: more than the size',
        "|Transfer-Encoding: chunked\r\n\r\n2\r\n{J}\r\n0\r\n\r\n"],
    ['F12: no last chunk',
        "|Transfer-Encoding: chunked\r\n\r\n{X}\r\n{J}\r\n"],
    ['F12: no end of the trailers',
        "|Transfer-Encoding: chunked\r\n\r\n{X}\r\n{J}\r\n0\r\nA: b\r\n"],
    ['F12: two codings',
        "|Transfer-Encoding: gzip, chunked\r\n\r\n$chunks"],
    ['F12: an unknown coding', "|Transfer-Encoding: identity\r\n\r\n{J}"],
    ['F12: chunked twice', "|Transfer-Encoding: chunked\r\n"
        . "Transfer-Encoding: chunked\r\n\r\n$chunks"],
    ['F14: two lengths',
        "|Content-Length: {L}\r\nContent-Length: 2\r\n\r\n{J}"],
    ['F14: two lengths, the other first',
        "|Content-Length: 2\r\nContent-Length: {L}\r\n\r\n{J}"],
    ['F14: two lengths in one', "|Content-Length: {L}, {L}\r\n\r\n{J}"],
    ['F14: a length with a sign', "|Content-Length: +{L}\r\n\r\n{J}"],
    ['F14: a length and chunks', "|Content-Length: {L}\r\n"
        . "Transfer-Encoding: chunked\r\n\r\n$chunks"],
    ['F14: chunks and a length', "|Transfer-Encoding: chunked\r\n"
        . "Content-Length: {L}\r\n\r\n$chunks"],
    ['F14: a header of 20k', '|X-Long: ' . 'x' x 20_000
        . "\r\nContent-Length: {L}\r\n\r\n{J}"],
);

# Refusals of the gateway's own call for a session, and answers to it that are
# none, each with an application of its own.
my @refused = (
    ['F07: 401', {status => 401, body => '{"errors":["Unauthorized"]}'}],
    ['F08: 403', {status => 403, body => '{"errors":["Forbidden"]}'}],
    ['F08: 404', {status => 404, body => '{"code":null}'}],
    ['F08: 422, signature', {status => 422,
        body => '{"errors":{"base":["Unexpected signature"]}}'}],
    ['F08: 422, nonce', {status => 422,
        body => '{"errors":{"base":["nonce has already been used"]}}'}],
    ['F08: 422, time, without a Date', {status => 422,
        headers => [['Date', undef]],
        body => '{"errors":{"base":["Bad timestamp"]}}'}],
    ['F09: 302', {status => 302, headers => [['Location', '/users.json']]}],
    ['F10: 201 and nothing', {body => ''}],
    ['F10: half an answer', {body => '{"session":{"application_id":92,'}],
    ['F10: a list', {body => '[]'}],
    ['F10: no token', {patch => {session => {token => undef}}}],
    ['F10: a token with a line feed',
        {patch => {session => {token => "Canary-Token\nX: y"}}}],
    ['F10: errors and no session', {body => '{"errors":["Unauthorized"]}'}],
    ['F10: another application', {patch => {session => {
        application_id => 93}}}],
    ['F10: no user', {patch => {session => {user_id => 0}}}],
    ['F14: 204', {status => 204}],
    ['F14: 304', {status => 304}],
);

# What the API may say to a request to wait: the least and the most that a
# client is then told, at once.
my @wait = (
    ['7', 7, 7],
    ['in 90 s', 80, 90],
    ['soon', 1, 1],
    ['0', 1, 1],
    [undef, 1, 1],
    ['999999999', 3600, 3600],
);

sub application ($name, %opt) {
    my $api = $opt{api} // '%%API%%';
    my $more = $opt{more} // '';

    return <<"END";
quickblox_application $name {
    api $api;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone $name 64k;
    $more
}
END
}

my $slow = grep { @$_ > 2 && {@$_[2 .. $#$_]}->{slow} } @failing;

# "v" validates and has a session of its own, "c" is to create one.
my %application = (
    (map { ("v$_" => {}, "c$_" => {}) } $slow .. $#failing),
    (map { ("v$_" => {more => 'timeout 1s;'},
        "c$_" => {more => 'timeout 1s;'}) } 0 .. $slow - 1),
    (map { ("r$_" => {}) } 0 .. $#refused),
    (map { ("w$_" => {}) } 0 .. $#wait),
    (map { ($_ => {}) } qw(odd ahead behind near wrong)),
    (map { ($_ => {api => "http://$_"}) } qw(refused dropped kept)),
);

my $http = join '', (map { application($_, %{$application{$_}}) }
    sort keys %application),
<<'END', (map { <<"END" } sort keys %application), '}';
upstream refused {
    server 127.0.0.1:%%API_PORT%%; # refused
}
upstream dropped {
    server 127.0.0.1:%%API_PORT%%; # dropped
}
upstream kept {
    server 127.0.0.1:%%API_PORT%%;
    keepalive 2;
}
server {
    listen 127.0.0.1:%%PORT_0%%;
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
location /$_/application/ {
    quickblox $_;
    quickblox_session application;
    proxy_pass %%BACKEND%%;
}
END

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

$t->nginx($http);

my $uncached = 0;

# Requests with a token that the gateway has not seen, and with that of its
# own session.
sub client ($app, $token = $api->session(user_id => 5)) {
    return $t->get("/$app/client/" . ++$uncached, token => $token);
}

sub user ($app) { return $t->get("/$app/user/x") }

sub is_refusal ($res, $name) {
    my $retry = $res->header('Retry-After') // '';

    return is_deeply [$res->status, $res->body,
        (map { $res->header($_) } qw(Content-Type Cache-Control)),
        $retry =~ /^[1-9]\d*$/ ? 'Retry-After' : "Retry-After: $retry"],
        [503,
            '{"errors":{"base":["Service is temporarily unavailable"]}}',
            'application/json', 'no-store', 'Retry-After'], $name;
}

sub how ($how, $token) {
    return %$how if ref $how;

    my $json = qq({"session":{"application_id":92,"user_id":5,)
        . qq("token":"$token"}});
    my %value = (J => $json, L => length $json,
        X => sprintf('%x', length $json));

    return (raw => $how =~ s/\{([JLX])\}/$value{$1}/gr);
}


# What works before anything fails

my (@token, @held);

for my $i (0 .. $#failing) {
    $token[$i] = $api->session(user_id => 5);
    is client("v$i", $token[$i])->status, 200,
        "$failing[$i][0]: a token is validated";
    $held[$i] = user("v$i")->json->{token};
    like $held[$i], qr/^[0-9a-f]{40}$/, "$failing[$i][0]: a session is held";
}


# F03 to F06, F10 to F14: a call fails

sub fails ($i, $client, $user) {
    my $name = $failing[$i][0];

    is_refusal $client, "$name: another token is refused";
    is_refusal $user, "$name: so is who needs a new session";
    is client("v$i", $token[$i])->status, 200,
        "$name: the validated token is served";
    is user("v$i")->json->{token}, $held[$i], "$name: the session held, too";

    return;
}

my $hits = $backend->hits;
my $failed = 0;

# What takes its time fails for all at once.
my @client = map { $api->session(user_id => 5) } 1 .. $slow;
my @user;

for my $endpoint ($GET, $POST) {
    $api->reset_calls;
    my $begin = time;
    my @started;

    for my $i (0 .. $slow - 1) {
        my $app = $endpoint eq $GET ? "v$i/client" : "c$i/user";

        $api->fail(%{$failing[$i][1]}, endpoint => $endpoint, times => 1);
        push @started, $t->start(path => "/$app/slow",
            $endpoint eq $GET ? (token => $client[$i]) : ());
        $api->wait_calls($endpoint, $i + 1);
    }

    my @res = map { $_->finish } @started;
    $endpoint eq $GET ? (@client = @res) : (@user = @res);

    cmp_ok time - $begin, '<', 2, "F03: $endpoint: no longer than the "
        . 'timeout and 1 s';
}

$api->heal;
is $backend->hits, $hits, 'T13: nothing is let through';

for my $i (0 .. $slow - 1) {
    $api->fail(%{$failing[$i][1]});
    fails($i, $client[$i], $user[$i]);
    $api->heal;
}

for my $i ($slow .. $#failing) {
    my ($name, $how, %opt) = @{$failing[$i]};
    my $token = $api->session(user_id => 5);

    $hits = $backend->hits;
    $api->reset_calls;
    $api->fail(how($how, $token));

    my $client = client("v$i", $token);
    my $user = user("c$i");

    is $backend->hits, $hits, "T13: $name: nothing is let through";

    my $calls = $api->counts;
    is $calls->{$GET}, $opt{calls}, "$name: calls for a token" if $opt{calls};
    is $calls->{$POST}, $opt{calls}, "$name: calls for a session"
        if $opt{calls};
    cmp_ok $calls->{$_}, '<=', 2, "$name: $_: at most one retry"
        for $GET, $POST;

    fails($i, $client, $user);
    is_deeply $api->counts, $calls, "$name: no call is made while it lasts";

    $api->heal;
}

my $healed = time;


# The gateway's own call is refused, or answered with nonsense

for my $i (0 .. $#refused) {
    my ($name, $how) = @{$refused[$i]};

    $hits = $backend->hits;
    $api->reset_calls;
    $api->fail(endpoint => $POST, %$how);

    is_refusal user("r$i"), "$name: no session, 503";
    is_refusal user("r$i"), "$name: once more";
    is $backend->hits, $hits, "T13: $name: nothing is let through";
    is_deeply $api->counts, {$POST => 1}, "$name: one call";

    $api->heal;
}


# F06: 429, for as long as the API says

for my $i (0 .. $#wait) {
    my ($value, $least, $most) = @{$wait[$i]};
    my $name = 'F06: Retry-After: ' . ($value // 'none');

    $value = strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime time + $1)
        if ($value // '') =~ /^in (\d+) s$/;

    $api->reset_calls;
    $api->fail(status => 429, headers => [['Retry-After', $value]]);
    my $res = client("w$i");
    $api->heal;

    is_refusal $res, $name;
    cmp_ok $res->header('Retry-After'), '>=', $least, "$name: no less";
    cmp_ok $res->header('Retry-After'), '<=', $most, "$name: no more";
    is_refusal user("w$i"), "$name: for all calls";
    is_deeply $api->counts, {$GET => 1}, "$name: nobody calls";
}


# F07: the API says that a token is none

for my $case (
    ['the text of an expiry', 1,
        '{"errors":{"base":["Required session does not exist"]}}'],
    ['in a list', 1, '{"errors":["required SESSION does not exist!"]}'],
    ['another text', 2, '{"errors":["Unauthorized"]}'],
    ['the text elsewhere', 2,
        '{"message":"Required session does not exist"}'],
    ['HTML', 2, '<html>Required session does not exist</html>'],
    ['nothing', 2, ''],
) {
    my ($name, $calls, $body) = @$case;
    my $token = $api->session(user_id => 5);

    $api->reset_calls;
    $api->fail(endpoint => $GET, status => 401, body => $body);

    for (1, 2) {
        my $res = client('odd', $token);
        is_deeply [$res->status, $res->body], [401,
            '{"errors":{"base":["Required session does not exist"]}}'],
            "F07: 401, $name: refused";
    }

    is $api->calls($GET), $calls, "T15: 401, $name: "
        . ($calls == 1 ? 'remembered' : 'not remembered');
    $api->heal;

    is client('odd', $token)->status, $calls == 1 ? 401 : 200,
        "T15: 401, $name: then";
}


# F08 to F10, F14: an answer to one client's token that says nothing of it

sub object (%fields) {
    my %object = (application_id => 92, user_id => 5,
        token => '"{{token}}"', %fields);

    return '{"session":{' . join(',', map { qq("$_":$object{$_}) }
        grep { defined $object{$_} } sort keys %object) . '}}';
}

sub body ($body) { return {body => $body} }

for my $case (
    ['F08: 400', {status => 400, body => $session}],
    ['F08: 403', {status => 403, body => '{"errors":["Forbidden"]}'}],
    ['F08: 404', {status => 404, body => '{"code":null}'}],
    ['F08: 422', {status => 422,
        body => '{"errors":{"base":["Bad timestamp"]}}'}],
    ['F09: 301', {status => 301, headers => [['Location', '/users.json']]}],
    ['F09: 302', {status => 302, headers => [['Location', '/users.json']]}],
    ['F09: 307', {status => 307, body => $session,
        headers => [['Location', '/users.json']]}],
    ['F10: nothing', body('')],
    ['F10: a blank', body(' ')],
    ['F10: half a session', body('{"session":{"application_id":92,')],
    ['F10: null', body('null')],
    ['F10: a string', body('"session"')],
    ['F10: a list', body("[$session]")],
    ['F10: no session', body('{}')],
    ['F10: a session that is none', body('{"session":5}')],
    ['F10: errors', body('{"errors":["Unauthorized"]}')],
    ['F10: Session', body($session =~ s/session/Session/r)],
    ['F10: two sessions', body($session =~ s/\}$/,"session":{}}/r)],
    ['F10: the session further in', body(qq({"a":$session}))],
    ['F10: no token', body(object(token => undef))],
    ['F10: two tokens', body(object('token":"x","token' => '"{{token}}"'))],
    ['F10: another token', body(object(token => '"' . 'a' x 40 . '"'))],
    ['F10: a number as token', body(object(token => 12345678))],
    ['F10: a beginning of the token', sub ($token) {
        body(object(token => '"' . substr($token, 0, 20) . '"'));
    }],
    ['F10: more than the token', body(object(token => '"{{token}}a"'))],
    ['F10: no application', body(object(application_id => undef))],
    ['F10: two applications', body(object('application_id":92,"x' => 1,
        'a":1,"application_id' => 93))],
    ['F10: application 92.9', body(object(application_id => 92.9))],
    ['F10: application "92 "', body(object(application_id => '"92 "'))],
    ['F10: application true', body(object(application_id => 'true'))],
    ['F10: application 92 + 2**64',
        body(object(application_id => '18446744073709551708'))],
    ['F10: no user', body(object(user_id => undef))],
    ['F10: two users', body(object('user_id":7,"x' => 1))],
    ['F10: user 1e999', body(object(user_id => '1e999'))],
    ['F10: user -1', body(object(user_id => -1))],
    ['F10: user null', body(object(user_id => 'null'))],
    ['F10: a byte-order mark', body("\x{ef}\x{bb}\x{bf}$session")],
    ['F10: something behind', body("$session x")],
    ['F10: another object behind', body("$session$session")],
    ['F10: NUL behind', body("$session\0")],
    ['F10: NUL in the token', body(object(token => '"{{token}}\u0000"'))],
    ['F10: too deep', body(object(x => '[' x 20 . ']' x 20))],
    ['F14: 201', {status => 201}],
    ['F14: 204', {status => 204}],
    ['F14: 206', {status => 206}],
    ['F14: 304', {status => 304}],
) {
    my ($name, $how) = @$case;
    my $token = $api->session(user_id => 5);

    $hits = $backend->hits;
    $how = $how->($token) if ref $how eq 'CODE';
    $api->reset_calls;
    $api->fail(endpoint => $GET, %$how);

    is_refusal client('odd', $token), $name;
    is $backend->hits, $hits, "T13: $name: nothing is let through";
    is_deeply $api->counts, {$GET => 1}, "$name: one call, none elsewhere";
    $api->heal;

    is client('odd', $token)->status, 200, "T15: $name: not remembered";
}

my @lines = grep { /\[error\]/ && /"odd"/ } split /\n/, $t->error_log;
is @lines, 1, 'F08: one line at level error in a minute';
like $lines[0], qr{\ quickblox\ application\ "odd":\ API\ call
    \ "GET\ /session\.json"\ failed,\ status\ 400.*\ source:\ client}x,
    'F08: which names application, call, status and source';


# F12 to F14: unusual answers that are right, over connections that are kept

for my $case (
    ['F12: chunks of 1 byte', {chunked => 1}],
    ['F12: each in a segment of its own', {chunked => 1, split => 'each'}],
    ['F12: a single chunk', {chunked => 'whole'}],
    ['F12: extensions', {chunked => 7, extension => 'a="b;c"'}],
    ['F12: trailers', {chunked => 7, trailers => [['A', 'b'], ['C', 'd']]}],
    ['F12: in four pieces', {split => [1, 20, 60]}],
    ['F13: no Content-Type', {headers => [['Content-Type', undef]]}],
    ['F13: of no charset', {headers => [['Content-Type',
        'application/json']]}],
    ['F14: HTTP/1.0', {version => '1.0', no_length => 1}],
    ['F14: HTTP/1.0 with a length', {version => '1.0'}],
    ['F14: to the end of the connection', {no_length => 1}],
    ['F14: 100', {before => "HTTP/1.1 100 Continue\r\n\r\n"}],
    ['F14: 103', {before => "HTTP/1.1 103 Early Hints\r\n"
        . "Content-Length: 3\r\nLink: </a>\r\n\r\n"}],
    ['F14: two of them', {before => "HTTP/1.1 102 Processing\r\n\r\n" x 2}],
    ['F10: white space', body(" \r\n\t$session \n")],
    ['F10: "92" and "5"',
        body(object(application_id => '"92"', user_id => '"5"'))],
    ['F10: 92.0 and 50e-1',
        body(object(application_id => '92.0', user_id => '50e-1'))],
    ['F10: members that nobody knows', body(object(x => '{"token":[1,{}]}'))],
) {
    my ($name, $how) = @$case;

    $api->fail(endpoint => $GET, %$how);
    is client('kept')->status, 200, "$name: is read";
    $api->heal;

    is client('kept')->status, 200, "$name: so is the next answer";
    is client('kept', 'not-a-session')->status, 401,
        "$name: and the one after it";
}

# A second answer behind the first is nobody's.
for my $case (
    ['a length', "HTTP/1.1 200 OK\r\nContent-Length: {L}\r\n\r\n{J}"],
    ['chunks', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        . $chunks],
) {
    my ($name, $raw) = @$case;
    my $token = $api->session(user_id => 5);
    my %first = how($raw, $token);
    my %second = how($raw, "stranger-$uncached");

    $api->fail(endpoint => $GET, raw => $first{raw} . $second{raw},
        keep => 1, times => 1);
    client('kept', $token);

    $t->wait_for(sub { client('kept')->status == 200 }, 'end of a back-off');
    is client('kept', "stranger-$uncached")->status, 401,
        "F14: $name: nobody gets an answer that came too early";
}


# F01, F02: no connection

my (%known, %session);

for my $app (qw(refused dropped)) {
    $known{$app} = $api->session(user_id => 5);
    is client($app, $known{$app})->status, 200, "$app: a token is validated";
    $session{$app} = user($app)->json->{token};
}

my %port = (refused => $t->closed_port, dropped => $t->blackhole);

ok $t->reload($http =~ s/%%API_PORT%%; # (\w+)/$port{$1}; # $1/gr),
    'the API is gone';

for my $case (['F01: refused', 'refused', 1], ['F02: dropped', 'dropped', 2])
{
    my ($name, $app, $limit) = @$case;
    my $from = time;

    $hits = $backend->hits;
    is_refusal client($app), "$name: another token is refused";
    cmp_ok time - $from, '<', $limit, "$name: in time";
    is_refusal $t->get("/$app/application/x"),
        "$name: so is who needs a new session";
    is $backend->hits, $hits, "T13: $name: nothing is let through";
    is client($app, $known{$app})->status, 200,
        "$name: the validated token is served";
    is user($app)->json->{token}, $session{$app},
        "$name: the session held, too";
}

ok $t->reload($http), 'the API is back';

# The back-off has begun before and goes on.
for my $app (qw(refused dropped)) {
    $t->wait_for(sub { client($app)->status == 200 }, 'recovery', 2);
    is $t->get("/$app/application/x")->status, 200, "$app: all is well again";
}


# Recovery, without a reload

cmp_ok time - $healed, '>', 1, 'a second has passed';

for my $i (0 .. $#failing) {
    is client("v$i")->status, 200, "$failing[$i][0]: tokens are validated";
    is user("c$i")->status, 200, "$failing[$i][0]: a session is made";
}

is user("r$_")->status, 200, "$refused[$_][0]: a session is made"
    for 0 .. $#refused;


# F08, T39: clocks that differ

sub timestamps {
    return map { $_->{body} =~ /(?:^|&)timestamp=(\d+)/ }
        $api->requests($POST);
}

for my $case (
    ['ahead', 'an API 2 hours ahead', 7200, 2],
    ['behind', 'an API 2 hours behind', -7200, 2],
    ['near', 'an API 5 minutes ahead', 300, 1],
) {
    my ($app, $name, $skew, $calls) = @$case;

    $api->skew($skew);
    $api->reset_calls;
    is user($app)->status, 200, "F08: $name: a session is made";

    my @sent = timestamps();
    is @sent, $calls, "F08: $name: calls";
    cmp_ok abs($sent[0] - time), '<', 10, "F08: $name: by our clock";
    cmp_ok abs($sent[1] - time - $skew), '<', 10, "F08: $name: by the API's"
        if $calls == 2;

    $api->reset_calls;
    is $t->get("/$app/application/x")->status, 200,
        "F08: $name: another session is made";
    is timestamps(), 1, "F08: $name: with one call, as the clock is known";
    $api->skew(-$skew);
}

$api->fail(endpoint => $POST, status => 422,
    body => '{"errors":{"base":["Bad timestamp"]}}');
$api->reset_calls;
is_refusal user('wrong'), 'F08: a time that is never right';
is timestamps(), 2, 'F08: is corrected once';

$t->wait_for(sub { $api->connections->{open} <= 2 }, 'end of connections');
pass 'no connections stay but those of "keepalive"';

$t->done;
