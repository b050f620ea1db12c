# quickblox_check: "do I have a session?"  The object or 401, from the cache
# where it is valid, and never a login as a side effect; the token for who may
# have it; statuses, and an API that is down.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(encode_base64);
use Test::More;

my $CREATE = 'POST /session.json';
my $CHECK = 'GET /session.json';
my $USER_TOKEN = 'POST /users/{id}/tokens';

my $MISSING = '{"errors":["Token is required"]}';
my $UNAUTHORIZED = '{"errors":["Unauthorized"]}';
my $DEAD = '{"errors":{"base":["Required session does not exist"]}}';
my $FOREIGN
    = '{"errors":{"base":["Session belongs to another application"]}}';
my $FORBIDDEN = '{"errors":{"base":["Forbidden"]}}';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

$t->secret('Canary-Wrong-Pw', 'Canary-Bad-Api-Key');

chmod 0600, $t->write('key', '0123456789abcdef' x 4);

my %application = (
    chat => 'login gateway; password Canary-Gateway-Pw;'
        . 'api_key Canary-Api-Key-92;',
    second => 'basic_valid 1s;',
    renew => 'login gateway; password Canary-Gateway-Pw;'
        . 'session_lifetime 3h; refresh_before 150m;',
    badkey => 'api_key Canary-Bad-Api-Key;',
    down => 'login gateway; password Canary-Gateway-Pw;'
        . 'api_key Canary-Api-Key-92;',
);

my $applications = join '', map { <<"END" . <<'END' } sort keys %application;
quickblox_application $_ {
    $application{$_}
    zone $_ 256k;
END
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    cookie_key %%DIR%%/key;
    cookie qb "Path=/; HttpOnly";
}
END

my $closed = $t->closed_port;
$applications =~ s{(quickblox_application down.*?api )%%API%%}
    {${1}http://127.0.0.1:$closed}s;

my @pairs = map { my $app = $_; map { [$app, $_] } qw(basic user application) }
    qw(chat second renew down);

my $locations = join '', map { my ($app, $source) = @$_; <<"END" } @pairs;
    location = /$app/$source {
        quickblox $app;
        quickblox_session $source;
        quickblox_check;
    }
    location /$app/$source/ {
        quickblox $app;
        quickblox_session $source;
        proxy_pass %%BACKEND%%;
    }
END

# "second" has no gateway's user.
$locations =~ s/location [^{]*\/second\/user[^}]*\}//g;

my $configuration = $applications . <<'END' . $locations . '}';
add_header X-Status "$quickblox_status $quickblox_user_id" always;

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;

    quickblox chat;

    location = /login {
        quickblox_login;
    }
    location = /logout {
        quickblox_logout;
    }
    location = /me {
        quickblox_check;
    }
    location = /me/down {
        quickblox down;
        quickblox_check;
    }
    location = /me/token {
        quickblox_check token;
    }
    location = /me/mixed {
        quickblox_session client basic cookie user;
        quickblox_check;
    }
    location = /me/key {
        quickblox_session client api_key;
        quickblox_check;
    }
    location = /me/none {
        quickblox_session client none;
        quickblox_check;
    }
    location = /me/chat {
        quickblox_session user_token;
        quickblox_user $arg_u;
        quickblox_check token;
    }
    location /chat/user_token/ {
        quickblox_session user_token;
        quickblox_user $arg_u;
        proxy_pass %%BACKEND%%;
    }
    location = /me/badkey {
        quickblox badkey;
        quickblox_session user_token;
        quickblox_user $arg_u;
        quickblox_check token;
    }
    location = /me/page {
        quickblox_check;
        error_page 401 =302 /login-page;
    }
    location = /me/origin {
        quickblox_check;
        quickblox_origin https://app.example.com;
    }
    location = /login-page {
        quickblox off;
        return 200 "the login page";
    }
    location /c/ {
        quickblox_session client cookie;
        quickblox_require any;
        proxy_pass %%BACKEND%%;
    }
END

my $nginx = $t->nginx($configuration);

sub login ($user = 'bob', $password = 'Canary-Bob-Pw') {
    my $res = $t->post('/login', "login=$user&password=$password", headers =>
        [['Content-Type', 'application/x-www-form-urlencoded']]);

    return [['Cookie', (split /;/, $res->header('Set-Cookie'))[0]]];
}

sub basic ($password = 'Canary-Bob-Pw') {
    return [['Authorization', 'Basic '
        . encode_base64("bob:$password", '')]];
}

sub refused ($res, $status, $body, $name, %opt) {
    my @wrong;

    push @wrong, 'status ' . $res->status if $res->status != $status;
    push @wrong, 'body ' . substr $res->body, 0, 200
        if defined $body && $res->body ne $body;
    push @wrong, 'not the shape of QuickBlox: ' . substr $res->body, 0, 200
        if ref(($res->json // {})->{errors}) !~ /^(?:HASH|ARRAY)$/;
    push @wrong, 'type'
        if ($res->header('Content-Type') // '') ne 'application/json';
    push @wrong, 'Cache-Control'
        if join(',', $res->headers('Cache-Control')) ne 'no-store';
    push @wrong, 'WWW-Authenticate'
        if ($status == 401) != @{[$res->headers('WWW-Authenticate')]};
    push @wrong, 'Retry-After' if ($status == 503)
        != (($res->header('Retry-After') // '') =~ /^[1-9]\d*$/);
    push @wrong, 'Allow'
        if ($res->header('Allow') // '') ne ($status == 405 ? 'GET' : '');
    push @wrong, 'cookie ' . join ',', $res->headers('Set-Cookie')
        if join(',', $res->headers('Set-Cookie')) ne ($opt{clear} ? 'qb=; '
            . 'Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; '
            . 'HttpOnly' : '');

    ok !@wrong, $name or diag join "\n", @wrong;

    return;
}

# The object, exactly; its time, once the API has it.
sub session ($res, $user, $name, %opt) {
    my $type = $user ? 'user' : 'application';
    my $token = $opt{token} ? ',"token":"([^"]+)"' : '';

    my ($expires) = $res->body =~ /^\{"session":\{"application_id":92,
        "user_id":$user,"type":"$type","expires_at":(\d+)$token\}\}$/x;

    my @wrong;
    push @wrong, 'status ' . $res->status if $res->status != 200;
    push @wrong, 'body ' . $res->body if !$expires;
    push @wrong, 'type' if $res->header('Content-Type') ne 'application/json';
    push @wrong, 'Cache-Control'
        if join(',', $res->headers('Cache-Control')) ne 'no-store';
    push @wrong, 'a cookie' if $res->headers('Set-Cookie');
    push @wrong, 'time ' . (($expires // 0) - time)
        if abs(($expires // 0) - time - 7200) > 300;

    ok !@wrong, $name or diag join "\n", @wrong;

    return;
}

sub counts (%expected) {
    my $name = delete $expected{name};

    is_deeply $api->counts, \%expected, $name;
    $api->reset_calls;

    return;
}


# A token and a cookie

{
    my $token = $api->session(user_id => 6);

    $api->reset_calls;
    session($t->get('/me', token => $token), 6, 'a token: the object');
    counts($CHECK => 1, name => 'a token: is validated');
    session($t->get('/me', token => $token), 6, 'a token: once more');
    is $t->get('/c/x', token => $token)->header('X-Status'), 'HIT 6',
        'a token: known to all';
    counts(name => 'a token: from the cache');

    my $res = $t->get('/me/token', token => $token);
    session($res, 6, 'token: the object', token => 1);
    is $res->json->{session}{token}, $token, 'token: and the token';
    unlike $t->get('/me', token => $token)->raw, qr/\Q$token/,
        'no token without "token"';

    my $application = $api->session;
    session($t->get('/me', token => $application), 0,
        'an application session is one');

    my $cookie = login();
    $api->reset_calls;
    session($t->get('/me', headers => $cookie), 5, 'a cookie: the object');
    $res = $t->get('/me/token', headers => $cookie);
    session($res, 5, 'a cookie, token: the object', token => 1);
    is $res->json->{session}{token},
        $t->get('/c/x', headers => $cookie)->json->{token},
        'a cookie, token: that of its session';
    counts(name => 'a cookie: from the cache');

    session($t->h2('/me', port => $t->port(1), headers => $cookie), 5,
        'HTTP/2');
    is $t->get('/me', headers => $cookie)->header('X-Status'), 'HIT 5',
        'the variables';
    is $t->get('/me', headers => $cookie)->header('Referrer-Policy'),
        'no-referrer', 'what has a token has no referrer';
}

refused($t->get('/me'), 401, $MISSING, 'nothing');
refused($t->get('/me', token => 'unknown-token'), 401, $DEAD,
    'an unknown token');
refused($t->get('/me', token => '!'), 401, $DEAD, 'an impossible token');
refused($t->get('/me', token => $api->session(application_id => 93)), 403,
    $FOREIGN, 'a token of another application');
refused($t->get('/me', headers => [['Cookie', 'qb=AAAA']]), 401, $DEAD,
    'a cookie that is none', clear => 1);
refused($t->get('/me', headers => [['QB-Token', 'token-one-1'],
    ['QB-Token', 'token-two-2']]), 400, undef, 'two tokens');
refused($t->h2('/me', port => $t->port(1), headers => []), 401, $MISSING,
    'HTTP/2: nothing');

{
    # Its session ends, and an upstream says so.
    my $cookie = login();
    $api->expire_user(5);
    session($t->get('/me', headers => $cookie), 5,
        'ended at the API: not known yet');

    $backend->check($api);
    is $t->get('/c/x', headers => $cookie)->status, 401,
        'ended at the API: an upstream knows';
    $backend->check(undef);

    $api->reset_calls;
    refused($t->get('/me', headers => $cookie), 401, $DEAD,
        'ended at the API: 401 and no cookie', clear => 1);
    refused($t->get('/me', headers => $cookie), 401, $DEAD,
        'ended at the API: again', clear => 1);
    counts($CHECK => 1, name => 'ended at the API: it is asked once');

    $cookie = login('alice', 'Canary-Alice-Pw');
    is $t->request(method => 'POST', path => '/logout', headers => $cookie)
        ->status, 200, 'logged out';
    refused($t->get('/me', headers => $cookie), 401, $DEAD,
        'logged out: 401 and no cookie', clear => 1);
}


# Statuses

for my $method (qw(HEAD POST PUT PATCH DELETE OPTIONS)) {
    my $res = $t->request(method => $method, path => '/me',
        token => $api->session(user_id => 5));

    is join(' ', $res->status, map { $res->header($_) // '' } 'Allow',
        'Cache-Control'), '405 GET no-store', "405: $method";
    refused($res, 405, undef, "405: $method: the shape") if $method ne 'HEAD';
}

for my $case ([['Origin', 'https://evil.example']], [['Origin', 'null']],
    [['Sec-Fetch-Site', 'cross-site']], [['Sec-Fetch-Site', 'same-site']])
{
    $api->reset_calls;
    refused($t->get('/me', token => $api->session(user_id => 5),
        headers => $case), 403, $FORBIDDEN, "403: @{$case->[0]}");
    counts(name => '403: nobody is asked');
}

session($t->get('/me', token => $api->session(user_id => 5),
    headers => $_), 5, "own pages: @{$_->[0]}")
    for [['Origin', 'http://localhost']], [['Sec-Fetch-Site', 'same-origin']],
        [['Sec-Fetch-Site', 'none']];
session($t->get('/me/origin', token => $api->session(user_id => 5),
    headers => [['Origin', 'https://app.example.com']]), 5, 'a listed origin');

{
    my $client = $t->client;
    my $token = $api->session(user_id => 5);

    for my $body ('a body', 'b' x 100_000) {
        session($client->get('/me', token => $token, body => $body), 5,
            'a body of ' . length($body) . ' bytes is not read');
    }

    session($client->get('/me', token => $token), 5,
        'and what is behind it is a request');
}

{
    my $res = $t->get('/me/page');
    is $res->status . ' ' . $res->body, '302 the login page',
        'error_page 401 =302';
    is $res->header('Cache-Control'), 'no-store', 'error_page: no-store';
    session($t->get('/me/page', token => $api->session(user_id => 5)), 5,
        'error_page: who has a session sees none');
}


# Sessions that the gateway holds: never a login

$api->reset_calls;
refused($t->get('/chat/basic'), 401, $MISSING, 'basic: nothing');
refused($t->get('/chat/basic', headers => basic()), 401, $DEAD,
    'basic: nobody has logged in');
refused($t->get('/chat/user'), 401, $DEAD, 'user: no session yet');
refused($t->get('/chat/application'), 401, $DEAD,
    'application: no session yet');
refused($t->get('/me/mixed', headers => basic()), 401, $DEAD,
    'mixed: basic decides');
refused($t->get('/me/mixed'), 401, $DEAD, 'mixed: user decides');
counts(name => 'held: no call was made');

{
    my $other = $t->start(path => '/chat/user');
    is $other->finish->status, 401, 'held: nor later';

    is $t->get('/chat/basic/', headers => basic())->status, 200,
        'basic: logged in by a request';
    is $t->get('/chat/user/')->status, 200, 'user: and for one';
    is $t->get('/chat/application/')->status, 200, 'application: and for one';
    counts($CREATE => 3, name => 'held: three sessions');

    session($t->get('/chat/basic', headers => basic()), 5, 'basic: the user');
    session($t->get('/chat/user'), 1, 'user: the gateway\'s');
    session($t->get('/chat/application'), 0, 'application: the gateway\'s');
    session($t->get('/me/mixed', headers => basic()), 5, 'mixed: basic');
    session($t->get('/me/mixed'), 1, 'mixed: user');
    session($t->get('/me/mixed', headers => login()), 5, 'mixed: a cookie');
    counts($CREATE => 1, name => 'held: from the cache');
}

is $t->get('/chat/basic/', headers => basic('Canary-Wrong-Pw'))->status, 401,
    'basic: a wrong password';
$api->reset_calls;
refused($t->get('/chat/basic', headers => basic('Canary-Wrong-Pw')), 401,
    $UNAUTHORIZED, 'basic: which is remembered');
refused($t->get('/chat/basic', headers => basic('Canary-Wrong-Pw2')), 401,
    $DEAD, 'basic: another one is not tried');
counts(name => 'basic: nobody is asked');

is $t->get('/chat/basic')->header('WWW-Authenticate'),
    'Basic realm="chat", charset="UTF-8"', 'basic: its challenge';
is $t->get('/chat/basic', headers => [['Sec-Fetch-Mode', 'cors']])
    ->header('WWW-Authenticate'), 'QuickBlox realm="chat"',
    'basic: to a script another one';

# A 401 that cannot be examined makes the session suspect.
for my $source (qw(basic user application)) {
    my $headers = $source eq 'basic' ? basic() : [];
    my $user = {basic => 5, user => 1, application => 0}->{$source};

    for my $alive (1, 0) {
        my $name = "$source, suspect, " . ($alive ? 'alive' : 'dead');

        my $res = $t->get("/chat/$source/", headers => $headers);
        is $res->status, 200, "$name: used";

        $api->expire($res->json->{token}) if !$alive;
        $backend->answer("/chat/$source/", status => 401, times => 1);
        $t->request(method => 'HEAD', path => "/chat/$source/",
            headers => $headers);
        $backend->heal;

        $api->reset_calls;
        $res = $t->get("/chat/$source", headers => $headers);

        $alive ? session($res, $user, "$name: the API says so")
            : refused($res, 401, $DEAD, "$name: and no login");
        counts($CHECK => 1, name => "$name: one validation");

        if (!$alive) {
            refused($t->get("/chat/$source", headers => $headers), 401, $DEAD,
                "$name: it is gone");
            counts(name => "$name: nobody is asked again");

            # Who needs a session and waits with one that only asks gets it.
            is $t->get("/chat/$source/", headers => $headers)->status, 200,
                "$name: a request makes one";
            counts($CREATE => 1, name => "$name: by a login");
            session($t->get("/chat/$source", headers => $headers), $user,
                "$name: and there it is");
            counts(name => "$name: from the cache");
        }
    }
}

{
    # Together with who needs one: the login is that one's.
    my $token = $t->get('/chat/user/')->json->{token};
    $api->expire($token);
    $backend->answer('/chat/user/', status => 401, times => 1);
    $t->request(method => 'HEAD', path => '/chat/user/');
    $backend->heal;

    $api->fail(endpoint => $CHECK, hold => 1, times => 1);
    $api->reset_calls;

    my @clients = map { $t->start(path => $_) } '/chat/user', '/chat/user/x';
    $api->wait_held(1);
    push @clients, $t->start(path => '/chat/user/y');
    $api->release;

    my ($check, @others) = map { $_->finish } @clients;
    is_deeply [map { $_->status } @others], [200, 200],
        'a check and requests together: they get their session';
    like $check->status, qr/^(?:200|401)$/, 'and the check an answer';
    counts($CHECK => 1, $CREATE => 1, name => 'of two calls');
    $api->heal;
}

{
    # A password that has to be proved again is not proved by asking.
    is $t->get('/second/basic/', headers => basic())->status, 200,
        'basic_valid: logged in';
    $api->reset_calls;
    session($t->get('/second/basic', headers => basic()), 5,
        'basic_valid: a session');
    $t->wait_for(sub {
        return $t->get('/second/basic', headers => basic())->status == 401;
    }, 'end of basic_valid');
    counts(name => 'basic_valid: no call after it');
    is $t->get('/second/basic/', headers => basic())->status, 200,
        'basic_valid: a request proves it';
    counts($CREATE => 1, name => 'basic_valid: by a login');

    # Nor is a session renewed.
    for my $source (qw(basic user application)) {
        my $headers = $source eq 'basic' ? basic() : [];

        is $t->get("/renew/$source/", headers => $headers)->header('X-Status')
            =~ s/ .*//r, 'MISS', "refresh_before: $source: a session";
        $api->reset_calls;

        for (1 .. 3) {
            like $t->get("/renew/$source", headers => $headers)
                ->header('X-Status'), qr/^HIT/,
                "refresh_before: $source: a check";
        }

        counts(name => "refresh_before: $source: renews nothing");
        like $t->get("/renew/$source/", headers => $headers)
            ->header('X-Status'), qr/^REFRESH/,
            "refresh_before: $source: which a request does";
    }
}


# Sources that are no session

refused($t->get("/me/$_"), 401, $MISSING, "$_: no session") for qw(key none);
session($t->get("/me/$_", token => $api->session(user_id => 6)), 6,
    "$_: but a token's") for qw(key none);


# user_token, with the token for the chat

{
    $api->reset_calls;
    my $res = $t->get('/me/chat?u=6');
    session($res, 6, 'user_token: the object', token => 1);
    my $token = $res->json->{session}{token};
    my ($session) = grep { $_->{token} eq $token } $api->sessions;
    is $session->{user_id}, 6, 'user_token: a session of the user';
    is $res->json->{session}{expires_at}, $session->{expires},
        'user_token: and its time';
    counts($USER_TOKEN => 1, name => 'user_token: made with the key');

    is $t->get('/me/chat?u=6')->json->{session}{token}, $token,
        'user_token: held';
    is $t->get('/chat/user_token/?u=6')->json->{token}, $token,
        'user_token: as for requests';
    isnt $t->get('/me/chat?u=5')->json->{session}{token}, $token,
        'user_token: another user has another';
    counts($USER_TOKEN => 1, name => 'user_token: from the cache');

    refused($t->get('/me/chat'), 401, $MISSING, 'user_token: nobody');
    refused($t->get("/me/chat?u=$_"), 403, $FORBIDDEN,
        "user_token: \"$_\" is nobody") for 'bob', '0', '-5', '5x', '%205';
    counts(name => 'user_token: the API is not asked');
    refused($t->get('/me/chat?u=99999'), 403, $FORBIDDEN,
        'user_token: an unknown user');

    refused($t->get('/me/badkey?u=5'), 503, $UNAVAILABLE,
        'user_token: the key is wrong');
}

for my $source ('user', 'application', 'api_key', 'client user',
    'cookie application', 'none')
{
    my ($ok, $said) = $t->test_config($configuration
        =~ s/(location = \/me\/token \{)/$1 quickblox_session $source;/r);

    ok !$ok, "token: refused for source $source";
    like $said, qr/\[emerg\].*quickblox_check token/,
        "token: source $source: the message";
}

for my $source ('client', 'cookie', 'basic', 'client basic cookie') {
    my ($ok, $said) = $t->test_config($configuration
        =~ s/(location = \/me\/token \{)/$1 quickblox_session $source;/r);

    ok $ok, "token: good for source $source" or diag $said;
}


# The API fails

{
    my $cached = $api->session(user_id => 5);
    my $cookie = login();
    session($t->get('/me', token => $cached), 5, 'before the API goes down');

    refused($t->get('/me/down', token => $cached), 503, $UNAVAILABLE,
        'the API is down: a token');
    refused($t->get('/me/down', headers => $cookie), 503, $UNAVAILABLE,
        'the API is down: a cookie');
    refused($t->get('/down/user'), 401, $DEAD,
        'the API is down: none is held');
    refused($t->get('/down/basic', headers => basic()), 401, $DEAD,
        'the API is down: nor of a user');

    $api->fail(endpoint => $CHECK, status => 404, times => 1);
    refused($t->get('/me', token => $api->session(user_id => 5)), 503,
        $UNAVAILABLE, 'the API answers nonsense');
    $api->heal;

    # Many who ask are one call; one who goes away takes nothing with him.
    my $token = $api->session(user_id => 5);
    $api->fail(endpoint => $CHECK, hold => 1, times => 1);
    $api->reset_calls;
    my @clients = map { $t->start(path => '/me', token => $token) } 1 .. 10;
    $api->wait_held(1);
    $clients[0]->abort;
    $clients[1]->close;
    $t->wait_log(qr/client .*closed connection/);
    $api->release;
    is_deeply [map { $_->finish->status } @clients[2 .. 9]], [(200) x 8],
        'ten who ask at once, two of whom go away';
    counts($CHECK => 1, name => 'are one call');
    $api->heal;

    $api->close_port;
    session($t->get('/me', token => $cached), 5,
        'the API is down: from the cache');
    session($t->get('/me', headers => $cookie), 5,
        'the API is down: a cookie from the cache');
    session($t->get('/chat/user'), 1, 'the API is down: one that is held');
    refused($t->get('/me', token => 'new-token-1'), 503, $UNAVAILABLE,
        'the API is down: 503 for one that is not known');
    $api->open_port;
}

$t->done;
