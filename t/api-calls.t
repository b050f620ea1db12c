# What the API sees: the bytes of each call (T44), on which connections, at
# which of several addresses and under which path; that a redirect is not
# followed (T34); signatures and nonces (T39).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(hmac_sha1_hex hmac_sha256_hex);
use Gateway;
use Test::More;
use Time::HiRes qw(time);

my $GET = 'GET /session.json';
my $POST = 'POST /session.json';
my $KEY = 'wJHd4cQSxpQGWx5';
my $SECRET = 'jyqGNhbGxkvBTgd';

# Bytes, not letters: UTF-8 is signed as it is.
my $strange = "Canary p&ss=w\xc3\xb6rd +%\"~";

my $t = Gateway->new;
my $api = $t->api(users => [
    ['gateway', 'Canary-Gateway-Pw', 1],
    ['a b&c+d', $strange, 2, 'a+b@example.com'],
]);
my $other = $t->api;
my $backend = $t->backend;

$t->secret($strange);

my $plain = "login gateway;\n    password Canary-Gateway-Pw;";
my $quoted = '"' . $strange =~ s/(["\\])/\\$1/gr . '"';

# "api", then more directives.
my %application = (
    chat => ['%%API%%', $plain],
    strange => ['%%API%%', 'login "a b&c+d";', "password $quoted;"],
    email => ['%%API%%', 'email a+b@example.com;', "password $quoted;"],
    sha256 => ['%%API%%', $plain, 'signature sha256;'],
    prefix => ['%%API%%/rest/v2', $plain],
    slash => ['%%API%%/', $plain],
    slashes => ['%%API%%/rest//', $plain],
    named => ['http://named/v2/', $plain, 'api_host api.test;'],
    map { ($_ => ["http://$_", $plain]) }
        qw(kept stale two half get post redirected),
);

# Servers of groups.
my ($live, $second, $closed) = map { "server 127.0.0.1:$_;" }
    $api->port, $other->port, $t->closed_port;

my %group = (
    named => $live,
    kept => "$live keepalive 2;",
    stale => "$live keepalive 2;",
    two => "$live $second",
    half => "$closed $live",
    get => "$second $live",
    post => "$second $live",
    redirected => $live,
);

sub application ($name, $url, @more) {
    my $more = join "\n    ", @more;

    return <<"END";
quickblox_application $name {
    api $url;
    application_id 92;
    auth_key $KEY;
    auth_secret $SECRET;
    zone $name 64k;
    $more
}
END
}

sub locations ($name) {
    return <<"END";
location /$name/client/ {
    quickblox $name;
    proxy_pass %%BACKEND%%;
}
location /$name/user/ {
    quickblox $name;
    quickblox_session user;
    proxy_pass %%BACKEND%%;
}
location /$name/application/ {
    quickblox $name;
    quickblox_session application;
    proxy_pass %%BACKEND%%;
}
END
}

$t->nginx(join '',
    (map { "upstream $_ { $group{$_} }\n" } sort keys %group),
    (map { application($_, @{$application{$_}}) } sort keys %application),
    "server {\nlisten 127.0.0.1:%%PORT_0%%;\n", <<'END',
proxy_set_header X-Site site;
proxy_set_header Cookie site=cookie;
proxy_set_body site-body;
END
    (map { locations($_) } sort keys %application), '}');

sub session { return $api->session(user_id => 5) }

sub client ($app, $token = session()) {
    return $t->get("/$app/client/x", token => $token);
}

sub escape ($value) {
    return $value =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger;
}

# The call that must have been made for a token.
sub get_call ($token, %opt) {
    return join "\r\n", 'GET ' . ($opt{path} // '') . '/session.json HTTP/1.1',
        'Host: ' . ($opt{host} // '127.0.0.1:' . $api->port),
        'Accept: application/json', 'Accept-Encoding: identity',
        ($opt{kept} ? () : 'Connection: close'), "QB-Token: $token", '', '';
}

# The same for a new session; nonce and time are those that were sent.
sub post_call ($sent, %opt) {
    my ($nonce) = $sent->{body} =~ /&nonce=(\d+)/;
    my ($timestamp) = $sent->{body} =~ /&timestamp=(\d+)/;
    my $user = $opt{user} // {};

    my %signed = (application_id => 92, auth_key => $KEY, nonce => $nonce,
        timestamp => $timestamp, map { ("user[$_]" => $user->{$_}) }
            keys %$user);
    my $message = join '&', map { "$_=$signed{$_}" } sort keys %signed;

    $signed{signature} = $opt{sha256} ? hmac_sha256_hex($message, $SECRET)
        : hmac_sha1_hex($message, $SECRET);

    my $body = join '&', map { "$_=" . escape($signed{$_}) }
        sort keys %signed;

    return join "\r\n",
        'POST ' . ($opt{path} // '') . '/session.json HTTP/1.1',
        'Host: ' . ($opt{host} // '127.0.0.1:' . $api->port),
        'Accept: application/json', 'Accept-Encoding: identity',
        ($opt{kept} ? () : 'Connection: close'),
        'Content-Type: application/x-www-form-urlencoded',
        'Content-Length: ' . length($body), '', $body;
}

sub sent ($request) { return $request->{head} . $request->{body} }


# T44: the whole of a call

my $token = session();
my %client = (body => '{"of":"the client"}', headers => [
    ['Host', 'client.test'], ['Cookie', 'a=b'], ['X-Client', 'c'],
    ['Content-Type', 'application/json'], ['Accept', 'image/png'],
    ['Accept-Encoding', 'gzip'], ['User-Agent', 'client'],
    ['Authorization', 'Basic YTpi'], ['X-Forwarded-For', '192.0.2.1'],
    ['On-Behalf-Of', 7], ['Range', 'bytes=0-1'], ['If-None-Match', '*'],
    ['TE', 'trailers'], ['Expect', '100-continue'],
]);

is $t->request(path => '/chat/client/x?q=1', token => $token, %client)->status,
    200, 'a request with headers, a query and a body';

my @calls = $api->requests;
is @calls, 1, 'T44: one call';
is sent($calls[0]), get_call($token), 'T44: GET: every byte is ours';

for my $case (
    ['chat', 'user', user => {login => 'gateway',
        password => 'Canary-Gateway-Pw'}],
    ['chat', 'application'],
    ['strange', 'user', user => {login => 'a b&c+d', password => $strange}],
    ['email', 'user', user => {email => 'a+b@example.com',
        password => $strange}],
    ['sha256', 'application', sha256 => 1],
) {
    my ($app, $source, %how) = @$case;

    $api->set(signature => $how{sha256} ? 'sha256' : 'sha1');
    $api->reset_calls;
    is $t->get("/$app/$source/x", %client)->status, 200,
        "$app: $source: a session is made";

    @calls = $api->requests;
    is @calls, 1, "T44: $app: $source: one call";
    is sent($calls[0]), post_call($calls[0], %how),
        "T44, T39: $app: $source: POST: every byte is ours";

    my ($timestamp) = $calls[0]{body} =~ /&timestamp=(\d+)/;
    cmp_ok abs($timestamp - time), '<', 10, "$app: $source: the time";
}

$api->set(signature => 'any');


# Under a path, with another name

for my $case (
    ['prefix', path => '/rest/v2'],
    ['slash', path => ''],
    ['slashes', path => '/rest'],
    ['named', path => '/v2', host => 'api.test', kept => 1],
) {
    my ($app, %how) = @$case;
    my $object = '{"session":{"application_id":92,"user_id":1,"token":"%s"}}';

    $api->reset_calls;
    $api->fail(endpoint => "GET $how{path}/session.json", status => 200,
        body => sprintf $object, '{{token}}');
    $api->fail(endpoint => "POST $how{path}/session.json", status => 201,
        body => sprintf $object, 'Canary-Token-' . $app);

    is client($app, $token)->status, 200, "$app: a token is validated";
    is $t->get("/$app/user/x")->status, 200, "$app: a session is made";

    @calls = $api->requests;
    is sent($calls[0]), get_call($token, %how), "$app: GET";
    is sent($calls[1]), post_call($calls[1], %how, user => {
        login => 'gateway', password => 'Canary-Gateway-Pw'}), "$app: POST";
    $api->heal;
}


# T34: no redirect is followed

for my $status (300, 301, 302, 303, 307, 308) {
    $api->reset_calls;
    $api->fail(endpoint => $GET, status => $status, headers => [['Location',
        $other->url . '/session.json']]);
    is client('redirected')->status, 503, "T34: $status: 503";
    is_deeply $api->counts, {$GET => 1}, "T34: $status: no other call";
    $api->heal;
}

$api->fail(endpoint => $POST, status => 307,
    headers => [['Location', $other->url . '/session.json']]);
is $t->get('/redirected/user/x')->status, 503, 'T34: 307 to a POST: 503';
$api->heal;

is $other->connections->{accepted}, 0, 'T34: nobody else is asked';


# Connections are kept in a group

sub accepted { return $api->connections->{accepted} }

$api->reset_calls;
my $before = accepted();

is client('kept', $token)->status, 200, 'the first call';
is $t->get('/kept/user/x')->status, 200, 'a POST';
is client('kept')->status, 200, 'one more';
is client('kept', 'not-a-session')->status, 401, 'one that is refused';
is $t->get('/kept/application/x')->status, 200, 'and another POST';

@calls = $api->requests;
is accepted() - $before, 1, 'one connection for five calls';
is sent($calls[0]), get_call($token, host => 'kept', kept => 1),
    'T44: GET, on a connection that is kept';
is sent($calls[1]), post_call($calls[1], host => 'kept', kept => 1, user => {
    login => 'gateway', password => 'Canary-Gateway-Pw'}),
    'T44: POST, on a connection that is kept';

$before = accepted();
is client('chat')->status, 200, 'without a group' for 1, 2;
is accepted() - $before, 2, 'there is one for each call';

# The API closes a connection that is kept, at the moment when it is used.
for my $case (
    [$GET, 'client', {cut => 'before'}],
    [$GET, 'client', {reset => 'before'}],
    [$POST, 'user', {cut => 'before'}],
    [$POST, 'application', {reset => 'before'}],
) {
    my ($endpoint, $source, $how) = @$case;
    my $name = "$endpoint, " . (keys %$how)[0];

    is client('stale')->status, 200, "$name: a connection is kept";

    $api->reset_calls;
    $api->fail(endpoint => $endpoint, %$how, times => 1);
    is $t->get("/stale/$source/x", $source eq 'client'
        ? (token => session()) : ())->status, 200, "$name: tried once more";

    @calls = $api->requests;
    is @calls, 2, "$name: two calls";
    isnt $calls[1]{connection}, $calls[0]{connection},
        "$name: the other on a new connection";
    isnt $calls[1]{body}, $calls[0]{body}, "$name: with a new nonce"
        if $endpoint eq $POST;
    $api->heal;
}

# Or while it is idle.
is client('stale')->status, 200, 'a connection is kept';
$api->close_port;
$api->open_port;
$api->reset_calls;
is client('stale')->status, 200, 'and closed by the API: no failure';
is $api->calls, 1, 'one call';


# Several addresses

$api->reset_calls;
$other->reset_calls;
$other->session(user_id => 5, token => $token);
$other->set(signature => 'any');

for (1 .. 4) {
    my $shared = "Canary-Shared-$_";

    $_->session(user_id => 5, token => $shared) for $api, $other;
    is client('two', $shared)->status, 200, "two addresses: call $_";
}

is_deeply [$api->calls($GET), $other->calls($GET)], [2, 2],
    'two addresses: each gets half of the calls';

is client('half')->status, 200, 'an address where nobody listens';
is $t->get('/half/user/x')->status, 200, 'and a POST';

# One that breaks off after the request.
$other->reset_calls;
$other->fail(reset => 'before');
is client('get')->status, 200, 'an address that breaks off: GET';
is $other->calls, 1, 'was asked first';
is $t->get('/post/user/x')->status, 200, 'an address that breaks off: POST';
is $other->calls, 2, 'was asked first, too';


# T39: nonces

my @many = map { "n$_" } 1 .. 30;

$t->nginx(join('', map({ application($_, '%%API%%', $plain) } @many),
    "server {\nlisten 127.0.0.1:%%PORT_1%% reuseport;\n",
    "add_header X-Pid \$pid;\n", map({ locations($_) } @many), '}'),
    workers => 2);

$api->reset_calls;

my @res = map { $_->finish } map { my $app = $_;
    map { $t->start(path => "/$app/$_/x", port => $t->port(1)) }
        qw(user application) } @many;
my %pid = map { ($_->header('X-Pid') // '') => 1 } @res;
my @nonces = map { $_->{body} =~ /&nonce=([^&]*)/ } $api->requests($POST);
my %nonce = map { $_ => 1 } @nonces;

is scalar(grep { $_->status == 200 } @res), 60, 'T39: 60 sessions';
is keys %pid, 2, 'T39: by two workers';
is @nonces, 60, 'T39: 60 nonces';
is keys %nonce, 60, 'T39: which differ';
is scalar(grep { /^(?:0|[1-9]\d*)$/ && $_ < 1 << 31 } @nonces), 60,
    'T39: and have 31 bits';

$t->done;
