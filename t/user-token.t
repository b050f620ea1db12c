# The source "user_token": the session of a user for whom another access
# module vouches, made with the API key and no password.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(encode_base64);
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

my $TOKENS = 'POST /users/{id}/tokens';
my $VALIDATION = 'GET /session.json';
my $MISSING = '{"errors":["Token is required"]}';
my $FORBIDDEN = '{"errors":{"base":["Forbidden"]}}';
my $DEAD = '{"errors":{"base":["Required session does not exist"]}}';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

my $t = Gateway->new;
my $api = $t->api(users => [
    ['gateway', 'Canary-Gateway-Pw', 1], ['bob', 'Canary-Bob-Pw', 5],
    ['alice', 'Canary-Alice-Pw', 6], ['carol', 'Canary-Carol-Pw', 7],
]);
my $backend = $t->backend(check => $api);
my $users = $t->write('users', join '', map { "$_:{PLAIN}Canary-Company\n" }
    qw(carol guest));

$t->secret('Canary-Wrong-Key', 'Canary-Other-Key');

# No auth_key and no auth_secret: it needs none.
my %application = (
    chat => 'cache_invalid 60s;',
    cold => 'timeout 30s; lock_timeout 30s;',
    dated => '',
    renewed => 'session_lifetime 20s; refresh_before 19s;',
    zero => 'cache_invalid 0;',
    odd => '',
    down => '',
    refused => 'api_key Canary-Wrong-Key;',
);

sub configuration (%change) {
    my %all = (%application, %change);

    my $applications = join '', map { <<"END" } sort keys %all;
quickblox_application $_ {
    api %%API%%;
    application_id 92;
    zone $_ 128k;
    @{[$all{$_} =~ /api_key/ ? '' : 'api_key Canary-Api-Key-92;']}
    $all{$_}
}
END

    my $locations = join '', map { <<"END" } sort keys %all;
    location /$_/ {
        quickblox $_;
        quickblox_session user_token;
        quickblox_user \$arg_u;
        proxy_pass %%BACKEND%%;
    }
END

    return <<"END";
$applications
quickblox_application gateway {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    zone gateway 128k;
}

# Who the company's users are at QuickBlox.
map \$remote_user \$employee {
    carol 7;
}

add_header X-Seen "\$quickblox_status|\$quickblox_user_id" always;
add_header X-Kind "\$quickblox_session_source|\$quickblox_session_type";
add_header X-Expires \$quickblox_expires always;
add_header X-Pid \$pid always;
underscores_in_headers on;

server {
    listen 127.0.0.1:%%PORT_0%% reuseport backlog=1024;

$locations
    location /text/ {
        quickblox chat;
        quickblox_session user_token;
        quickblox_user "\$http_x_one\$http_x_two";
        proxy_pass %%BACKEND%%;
    }
    location /gateway/ {
        quickblox gateway;
        quickblox_session user_token user;
        quickblox_user \$arg_u;
        proxy_pass %%BACKEND%%;

        location /gateway/client/ {
            quickblox_session client user_token;
            proxy_pass %%BACKEND%%;
        }
        location /gateway/none/ {
            quickblox_session user_token none;
            proxy_pass %%BACKEND%%;
        }
    }

    # Another access module vouches.
    location /request/ {
        auth_request /vouch;
        auth_request_set \$user \$upstream_http_x_user;
        quickblox chat;
        quickblox_session user_token;
        quickblox_user \$user;
        proxy_pass %%BACKEND%%;
    }
    location /password/ {
        auth_basic company;
        auth_basic_user_file $users;
        quickblox chat;
        quickblox_session user_token;
        quickblox_user \$employee;
        proxy_pass %%BACKEND%%;
    }
    location = /vouch {
        internal;
        proxy_pass http://127.0.0.1:%%PORT_1%%;
        proxy_pass_request_body off;
        proxy_set_header Content-Length '';
    }
    location = /status {
        stub_status;
    }
}

server {
    listen 127.0.0.1:%%PORT_1%%;
    location / {
        if (\$http_x_badge = '') {
            return 401;
        }
        add_header X-User \$http_x_badge;
        return 204;
    }
}
END
}

$t->nginx(configuration(), workers => 4);

sub seen ($res) {
    return join ' ', $res->status, $res->header('X-Seen') // '';
}

sub outcome ($res) { return $res->status . ' ' . $res->body }

sub made { return $api->calls($TOKENS) }

sub token ($res) { return $res->json->{token} }

my $asking;

sub wait_requests ($count) {
    return $t->wait_for(sub {
        my $body = $asking ? $asking->get('/status')->body : '';
        my ($writing) = $body =~ /Writing: (\d+)/;

        $asking = $t->client if !defined $writing;
        return defined $writing && $writing == $count + 1;
    }, "$count requests under way", 20);
}


# One session a user, for all workers

{
    $api->fail(endpoint => $TOKENS, hold => 1);
    wait_requests(0);

    my @ids = map { (5, '005', 6, '6') } 1 .. 25;
    my @clients = map { $t->start(path => "/cold/?u=$_") } @ids;

    wait_requests(100);
    $api->wait_held(2);
    is made(), 2, '100 requests of two users: two sessions are made';

    $api->heal;
    $api->release;
    my @responses = map { $_->finish(20) } @clients;

    is_deeply [grep { $_->status != 200 } @responses], [],
        'all requests are served';
    is keys %{{map { $_->header('X-Pid') => 1 } @responses}}, 4,
        'by four workers';

    my %token = map { $_->{user_id} => $_->{token} } $api->sessions;
    is_deeply [map { $_->header('X-Seen') =~ s/.*\|//r } @responses],
        [map { $_ + 0 } @ids], 'each for its user';
    is_deeply [map { token($_) } @responses], [map { $token{$_ + 0} } @ids],
        'with the one session of each';
    is made(), 2, 'and no other was made';
    is $api->calls, 2, 'nor anything asked';
}


# What is sent

{
    $api->reset_calls;
    my $res = $t->post('/chat/a?u=7', 'Body-Of-The-Client', headers => [
        ['Authorization', 'ApiKey Forged-Key'], ['Cookie', 'a=b'],
        ['On-Behalf-Of', 1], ['on_behalf_of', 1], ['X-Client', 'x'],
        ['User-Agent', 'Client/1'], ['QB-SDK', 'JS'],
        ['Content-Type', 'text/x-client']], token => 'Token-Of-The-Client');
    my ($call) = $api->requests($TOKENS);
    my %header = map { lc $_->[0] => $_->[1] } @{$call->{headers}};

    is seen($res), '200 MISS|7', 'a new session';
    is $res->header('X-Kind'), 'user_token|user', 'the variables';
    is $call->{uri}, '/users/7/tokens', 'the call: its path';
    is_deeply [$call->header_all('Authorization')],
        ['ApiKey Canary-Api-Key-92'], 'the call: the key';
    is_deeply [sort grep { !/^(?:host|authorization|connection|accept
        |accept-encoding|content-length|user-agent)$/x } keys %header], [],
        'the call: no header of another kind';
    unlike $call->{head} . $call->{body}, qr/client|forged|behalf|a=b/i,
        'the call: nothing of the client';
    is $call->{body_length}, 0, 'the call: no body';

    is_deeply [map { "$_->[0]: $_->[1]" } grep { $_->[0] =~
        /token|authorization|behalf/i } @{$res->json->{headers}}],
        ['QB-Token: ' . token($res)],
        'T69: the backend gets the token and nothing beside it';
    unlike $res->raw . $t->get('/chat/a?u=7')->raw, qr/Api-Key/,
        'nor does anybody get the key';
    is $api->calls, 1, 'the session is held';
}


# The value

{
    my $seven = token($t->get('/chat/?u=7'));
    $api->reset_calls;

    is token($t->get("/chat/?u=$_")), $seven, "$_ is user 7"
        for '007', '0' x 12 . '7';
    is token($t->get('/text/', headers => [['X-Two', 7]])), $seven,
        'so is a text';
    is seen($t->get('/text/', headers => [['X-One', 0], ['X-Two', 7]])),
        '200 HIT|7', 'in parts';

    for ('bob', '-7', '+7', '7.0', '7x', 'x7', '0', '000', '7e0', '0x7',
        '%207', '7%0d%0aX:1', '7/tokens', '7,8', '18446744073709551616',
        '99999999999999999999999')
    {
        is outcome($t->get("/chat/not?u=$_")), "403 $FORBIDDEN",
            "\"$_\" is no user";
    }

    is outcome($t->get('/text/', headers => [['X-One', $_]])),
        "403 $FORBIDDEN", "nor is \"$_\"" for '7 8', "7\t8", "7\x01",
        "\xd9\xa7", '../7', '7?a=b';

    my $res = $t->get('/chat/not?u=');
    is outcome($res), "401 $MISSING", 'an empty one is nobody';
    is $res->header('WWW-Authenticate'), 'QuickBlox realm="chat"',
        'with the challenge';
    is outcome($t->get('/chat/not')), "401 $MISSING", 'none neither';

    is $api->calls, 0, 'the API is asked about none of them';
    is $backend->hits('/chat/not'), 0, 'and the backend sees none';
}


# Other sources beside it

{
    my $gateway = token($t->get('/gateway/'));
    my $bob = $api->session(user_id => 5);

    is seen($t->get('/gateway/')), '200 HIT|1', 'empty: the next source';
    is seen($t->get('/gateway/?u=7')), '200 MISS|7', 'else the user';
    isnt token($t->get('/gateway/?u=7')), $gateway, 'by another session';
    is outcome($t->get('/gateway/?u=x')), "403 $FORBIDDEN",
        'no number: refused and not skipped';
    is outcome($t->get('/gateway/?u=999')), "403 $FORBIDDEN",
        'nor is an unknown user';
    is seen($t->get('/gateway/none/')), '200 OFF|', 'empty, and none'
        if $backend->check(undef);
    is seen($t->get('/gateway/client/?u=7', token => $bob)), '200 MISS|5',
        'a client\'s token goes first';
    is seen($t->get('/gateway/client/?u=7')), '200 HIT|7', 'without it he';
    is outcome($t->get('/gateway/client/?u=7', token => 'not-a-live-one')),
        "401 $DEAD", 'a bad token is not skipped';
    $backend->check($api);
}


# An unknown user

{
    $api->reset_calls;
    is_deeply [map { outcome($t->get('/chat/not?u=4711')) } 1 .. 10],
        [("403 $FORBIDDEN") x 10], 'an unknown user: 403';
    is made(), 1, 'which is remembered, by all workers';
    is seen($t->get('/chat/?u=7')), '200 HIT|7', 'others are served';
    like seen($t->get('/chat/?u=6')), qr/^200 MISS/,
        'T70: and are made sessions';

    $api->reset_calls;
    is outcome($t->get('/zero/?u=4711')), "403 $FORBIDDEN",
        'cache_invalid 0' for 1 .. 3;
    is made(), 3, 'is asked each time';
    $api->user(id => 4711, login => 'late', password => 'Canary-Late-Pw');
    is seen($t->get('/zero/?u=4711')), '200 MISS|4711',
        'until there is one';
}


# The end that the answer tells

my $dated = 100;

# It would slide them.
$backend->check(undef);

for my $case ([600, 600], [3 * 3600 + 60, 7200], [-5, 7200],
    ['soon', 7200], [undef, 7200])
{
    my ($after, $expected) = @$case;
    my $id = ++$dated;
    my $date = !defined $after || $after eq 'soon' ? $after
        : strftime('%Y-%m-%dT%H:%M:%SZ', gmtime time + $after);

    $api->user(id => $id, login => "dated$id", password => 'Canary-Dated');
    $api->fail(endpoint => $TOKENS, patch => {expires_at => $date});
    my $res = $t->get("/dated/?u=$id");
    cmp_ok abs($res->header('X-Expires') - time - $expected), '<', 5,
        'expires_at: ' . ($after // 'none') . ": $expected s";
    $api->heal;
}

$backend->check($api);


# Renewal: by the token, which stays

{
    my $first = token($t->get('/renewed/?u=7'));
    $api->reset_calls;

    $t->wait_for(sub {
        $t->get('/renewed/?u=7');
        return $api->calls($VALIDATION);
    }, 'renewal');
    is token($t->get('/renewed/?u=7')), $first,
        'renewal: by a question that slides it';
    is made(), 0, 'and no new session';
    is_deeply [map { $_->header_all('Authorization') }
        $api->requests($VALIDATION)], [], 'without the key';

    # Another user's by now: somebody has logged in with it.
    $api->reset_calls;
    $api->fail(endpoint => $VALIDATION, patch => {session => {user_id => 5}});
    $t->wait_for(sub { token($t->get('/renewed/?u=7')) ne $first },
        'new session', 15);
    is seen($t->get('/renewed/?u=7')) =~ s/REFRESH/HIT/r, '200 HIT|7',
        'renewal: a token that is another\'s is not kept';
    $api->heal;
}


# Expired: made anew, the request replayed

for my $case (['GET', undef], ['POST', 'Body-Of-Carol ' x 5000]) {
    my ($method, $body) = @$case;
    my @request = (method => $method, path => "/chat/replay?u=7",
        defined $body ? (body => $body) : ());
    my $first = $t->request(@request)->json;

    $api->expire($first->{token});
    $api->reset_calls;
    my $res = $t->request(@request);

    is $res->status, 200, "$method after an expiry";
    isnt token($res), $first->{token}, 'with a new session';
    is made(), 1, 'made once';
    is_deeply [map { $res->json->{$_} } qw(body_length body_sha256)],
        [@$first{qw(body_length body_sha256)}], 'the same body';
    is $res->json->{body_length}, length($body // ''), 'all of it';
}


# Whose fault it is (T70)

{
    my @wrong = ([404, '{"errors":{"base":["User not found"]}}'],
        [422, '{"errors":["no such user"]}']);
    my @odd = ([404, '{"code":null,"message":"Possible subdomains: api"}'],
        [404, '<html>Not found</html>'], [403, '{}'], [418, '{}']);
    my @answers = ((map { [@$_, "403 $FORBIDDEN"] } @wrong),
        map { [@$_, "503 $UNAVAILABLE"] } @odd);

    for my $n (0 .. $#answers) {
        my ($status, $body, $expected) = @{$answers[$n]};
        my $id = 500 + $n;

        $api->user(id => $id, login => "odd$id", password => 'Canary-Odd-Pw');
        $api->user(id => $id + 100, login => "even$id",
            password => 'Canary-Even-Pw');
        $api->fail(endpoint => "POST /users/$id/tokens", status => $status,
            body => $body);

        is outcome($t->get("/odd/?u=$id")), $expected, "$status $body";
        is seen($t->get('/odd/?u=' . ($id + 100))),
            '200 MISS|' . ($id + 100), 'T70: others are made sessions';
        $api->heal;
        is $t->get("/odd/?u=$id")->status, $expected =~ /^403/ ? 403 : 200,
            'a refusal is remembered, a failure not';
    }
}

for my $case (
    ['a body that is no JSON', 201, '<html>'],
    ['no token', 201, '{"expires_at":"2030-01-01T00:00:00Z"}'],
    ['an impossible token', 201, '{"token":"a,b c"}'],
    ['two tokens', 201, '{"token":"token-one-1","token":"token-two-2"}'],
    ['500', 500, '{}'],
    ['429', 429, '{}'],
) {
    my ($name, $status, $body) = @$case;

    $t->wait_for(sub { $t->get('/down/?u=6')->status == 200 },
        'end of the back-off', 20);
    $api->fail(endpoint => 'POST /users/7/tokens', status => $status,
        body => $body, headers => [['Retry-After', 1]]);
    my $res = $t->get('/down/?u=7');
    is outcome($res), "503 $UNAVAILABLE", "$name: 503";
    like $res->header('Retry-After'), qr/^[1-9]/, 'with Retry-After';
    $api->heal;
    is $t->get('/down/?u=6')->status, 200, 'a session that is held goes on';
}

{
    $api->reset_calls;
    my $res = $t->get('/refused/?u=7');

    is outcome($res), "503 $UNAVAILABLE", 'a key that is refused: 503';
    like $res->header('Retry-After'), qr/^[1-9]\d*$/, 'with Retry-After';
    is $t->get('/refused/?u=6')->status, 503, 'for all users';
    is made(), 1, 'who do not ask in between';
    like $t->error_log,
        qr/\[error\].*"refused".*tokens.*"api_key" is refused.*user_token/,
        'the log names it';
}


# Others who vouch

{
    my @badge = (headers => [['X-Badge', 7]]);
    my @forged = (headers => [['X-User', 7], ['X-Badge', '']]);

    is seen($t->get('/request/a', @badge)), '200 HIT|7',
        'auth_request: what it has found is there';
    is seen($t->post('/request/a', 'body', @badge)), '200 HIT|7',
        'auth_request: with a body';
    is $t->get('/request/not', @forged)->status, 401,
        'auth_request: who is refused there';
    is outcome($t->get('/request/not', headers => [['X-Badge', 'x']])),
        "403 $FORBIDDEN", 'auth_request: who is no number';
    is seen($t->get('/request/a', headers => [['X-Badge', 5],
        ['X-User', 7]])), '200 MISS|5', 'auth_request: a client is not asked';

    my $company = sub ($name, $password = 'Canary-Company') {
        return headers => [['Authorization', 'Basic '
            . encode_base64("$name:$password", '')]];
    };

    is seen($t->get('/password/a', $company->('carol'))), '200 HIT|7',
        'auth_basic: what it has found is there';
    is $t->get('/password/not', $company->('carol', 'Canary-Wrong'))->status,
        401, 'auth_basic: a wrong password';
    is $t->get('/password/not')->status, 401, 'auth_basic: none';
    is outcome($t->get('/password/not', $company->('guest'))),
        "401 $MISSING", 'auth_basic: who has no user';
    is $backend->hits('/password/not') + $backend->hits('/request/not'), 0,
        'none of them reaches the backend';
    is made(), 2, 'and for none a session is made';
}


# Reloads

{
    $api->reset_calls;
    ok $t->reload(configuration()), 'reload';
    is seen($t->get('/chat/?u=7')), '200 HIT|7', 'it keeps sessions';
    is $api->calls, 0, 'nobody is asked';

    ok $t->reload(configuration(chat => 'api_key Canary-Other-Key;')),
        'another api_key';
    is outcome($t->get('/chat/?u=7')), "503 $UNAVAILABLE",
        'does not honour the old sessions';
    is made(), 1, 'but asks';
}

$t->done;
