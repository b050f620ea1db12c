# quickblox_logout (T32): POST alone and from own pages alone; the session ends
# at the API and in all workers, the cookie goes whatever the API says, and
# what is not the client's own stays.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(encode_base64);
use Mojo::Util qw(url_escape);
use Test::More;

my $CREATE = 'POST /session.json';
my $CHECK = 'GET /session.json';
my $DOWNGRADE = 'DELETE /login.json';
my $DESTROY = 'DELETE /session.json';

my $DEAD = '{"errors":{"base":["Required session does not exist"]}}';
my $NEED_USER = '{"errors":{"base":["Forbidden. Need user."]}}';
my $FORBIDDEN = '{"errors":{"base":["Forbidden"]}}';
my $FORM = 'application/x-www-form-urlencoded';

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

chmod 0600, $t->write('key', '0123456789abcdef' x 4);

my @failures = (
    ['500', status => 500],
    ['429', status => 429],
    ['no answer', blackhole => 1],
    ['reset', reset => 'before'],
    ['nonsense', raw => "Canary\r\n\r\n"],
    ['400', status => 400],
    ['404', status => 404],
    ['403', status => 403],
    ['302', status => 302, headers => [['Location', '/']]],
);

my %application = (
    chat => 'login gateway; password Canary-Gateway-Pw;'
        . 'api_key Canary-Api-Key-92;' . 'cookie_key %%DIR%%/key;'
        . 'cookie qb "Path=/; HttpOnly";',
    host => 'cookie_key %%DIR%%/key;',
    bare => '',
    short => 'basic_valid 1s;',
    map { ("failing$_" => 'timeout 400ms; cookie_key %%DIR%%/key;'
        . 'cookie qb "Path=/; HttpOnly";') } 0 .. $#failures,
);

my $applications = join '', map { <<"END" } sort keys %application;
quickblox_application $_ {
    $application{$_}
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    zone $_ 256k;
}
END

my $locations = join '', map { <<"END" } 0 .. $#failures;
    location = /failing$_/login {
        quickblox failing$_;
        quickblox_login;
    }
    location = /failing$_/logout {
        quickblox failing$_;
        quickblox_logout;
    }
    location /failing$_/ {
        quickblox failing$_;
        quickblox_session cookie;
        proxy_pass %%BACKEND%%;
    }
END

my @held = qw(basic user application user_token api_key none);

$locations .= join '', map { <<"END" } @held;
    location = /$_/logout {
        quickblox_session client $_;
        quickblox_user \$arg_u;
        quickblox_logout;
    }
    location /$_/ {
        quickblox_session client $_;
        quickblox_user \$arg_u;
        proxy_pass %%BACKEND%%;
    }
END

$t->nginx($applications . <<'END' . $locations . '}', workers => 2);
add_header X-Status $quickblox_status always;

server {
    listen 127.0.0.1:%%PORT_0%% reuseport;
    listen 127.0.0.1:%%PORT_1%% http2;

    quickblox chat;
    client_body_in_file_only on;

    location = /pid {
        quickblox off;
        return 200 $pid;
    }
    location = /login {
        quickblox_login;
    }
    location = /logout {
        quickblox_logout;
    }
    location = /destroy {
        quickblox_logout destroy;
    }
    location = /origin {
        quickblox_logout;
        quickblox_origin https://app.example.com;
    }
    location = /small {
        client_max_body_size 20;
        quickblox_logout;
    }
    location = /check {
        quickblox_check;
    }
    location = /bare/logout {
        quickblox bare;
        quickblox_logout;
    }
    location = /host/login {
        quickblox host;
        quickblox_login;
    }
    location = /host/logout {
        quickblox host;
        quickblox_logout;
    }
    location = /short/logout {
        quickblox short;
        quickblox_session basic;
        quickblox_logout;
    }
    location /short/ {
        quickblox short;
        quickblox_session basic;
        proxy_pass %%BACKEND%%;
    }
    location /c/ {
        quickblox_session client cookie;
        proxy_pass %%BACKEND%%;
    }
END

# A connection to each worker.
my %worker;
$t->wait_for(sub {
    my $client = $t->client;
    $worker{$client->get('/pid')->body} //= $client;

    return keys %worker == 2;
}, 'connections to both workers');
my @workers = values %worker;

sub login ($path = '/login') {
    my $res = $t->post($path, 'login=bob&password=Canary-Bob-Pw',
        headers => [['Content-Type', $FORM]]);

    return [['Cookie', (split /;/, $res->header('Set-Cookie'))[0]]];
}

sub logout ($headers = [], %opt) {
    return $t->request(method => 'POST', path => '/logout', %opt,
        headers => $headers);
}

sub basic { return [['Authorization', 'Basic '
    . encode_base64('bob:Canary-Bob-Pw', '')]] }

my $CLEAR = 'qb=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; '
    . 'HttpOnly';

sub gone ($res, $name, $clear = $CLEAR) {
    my @wrong;

    push @wrong, 'status ' . $res->status if $res->status != 200;
    push @wrong, 'body ' . $res->body if $res->body ne '{}';
    push @wrong, 'type'
        if ($res->header('Content-Type') // '') ne 'application/json';
    push @wrong, 'Cache-Control'
        if join(',', $res->headers('Cache-Control')) ne 'no-store';
    push @wrong, 'cookie ' . join '|', $res->headers('Set-Cookie')
        if join('|', $res->headers('Set-Cookie')) ne $clear;

    ok !@wrong, $name or diag join "\n", @wrong;

    return;
}

sub refused ($res, $status, $body, $name) {
    my @wrong;

    push @wrong, 'status ' . $res->status if $res->status != $status;
    push @wrong, 'body ' . substr $res->body, 0, 200
        if defined $body && $res->body ne $body;
    push @wrong, 'not the shape of QuickBlox: ' . substr $res->body, 0, 200
        if ref(($res->json // {})->{errors}) !~ /^(?:HASH|ARRAY)$/;
    push @wrong, 'Cache-Control'
        if join(',', $res->headers('Cache-Control')) ne 'no-store';
    push @wrong, 'Allow'
        if ($res->header('Allow') // '') ne ($status == 405 ? 'POST' : '');
    push @wrong, 'a cookie' if $res->headers('Set-Cookie');

    ok !@wrong, $name or diag join "\n", @wrong;

    return;
}

sub counts (%expected) {
    my $name = delete $expected{name};

    is_deeply $api->counts, \%expected, $name;
    $api->reset_calls;

    return;
}

sub live ($token) {
    return (grep { $_->{token} eq $token } $api->sessions)[0];
}

# In both workers.
sub everywhere ($headers, $token = undef) {
    return join ' ', map { $_->get('/c/x', headers => $headers,
        token => $token)->status } @workers;
}


# A cookie

for my $path ('/logout', '/destroy') {
    my $cookie = login();
    my $other = login();
    my $token = $workers[0]->get('/c/x', headers => $cookie)->json->{token};

    is everywhere($cookie), '200 200', "$path: before";

    $api->reset_calls;
    gone(logout($cookie, path => $path), "$path: the answer");

    my $endpoint = $path eq '/destroy' ? $DESTROY : $DOWNGRADE;
    is +($api->requests($endpoint))[0]->header('QB-Token'), $token,
        "$path: the API is told";
    counts($endpoint => 1, name => "$path: once");
    is +(live($token) // {})->{user_id}, $path eq '/destroy' ? undef : 0,
        "$path: at the API it is no user's any more";

    is everywhere($cookie), '401 401', "$path: refused in all workers";
    is everywhere($cookie), '401 401', "$path: from then on";
    is $t->get('/check', headers => $cookie)->status, 401, "$path: no session";
    is $t->get('/c/x', headers => $cookie)->header('Set-Cookie'), $CLEAR,
        "$path: who comes with it loses it";
    is everywhere([], $token), $path eq '/destroy' ? '401 401' : '403 403',
        "$path: and the token is a user's no more";
    is everywhere($other), '200 200', "$path: another session goes on";

    gone(logout($cookie, path => $path), "$path: again");
}

{
    $api->reset_calls;
    gone(logout(), 'nothing to log out of');
    gone(logout([['Cookie', 'a=b; qb=AAAA']]), 'a cookie that is none');
    gone(logout([['Cookie', 'qb=']]), 'an empty cookie');
    gone(logout([['Cookie', 'qb=AAAA; qb=BBBB']]), 'two cookies');
    gone(logout([['QB-Token', '!']]), 'a token that is none');
    gone(logout([['QB-Token', 'token-one-1'], ['QB-Token', 'token-two-2']]),
        'two tokens');
    counts(name => 'of these the API hears nothing');

    gone($t->h2('/logout', port => $t->port(1), method => 'POST',
        headers => login()), 'HTTP/2');
    gone(logout([], version => '1.0'), 'HTTP/1.0');
    is logout()->header('Referrer-Policy'), 'no-referrer',
        'the next page does not learn of this one';

    # Cookies by default.
    my $res = $t->post('/host/login', 'login=bob&password=Canary-Bob-Pw',
        headers => [['Content-Type', $FORM]]);
    my ($attributes) = $res->header('Set-Cookie') =~ /^[^;]+(;.*)/;
    gone(logout([], path => '/host/logout'), 'it is cleared as it was set',
        '__Host-quickblox=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT'
            . $attributes);
}


# T32: by POST, from own pages

{
    my $cookie = login();
    $api->reset_calls;

    for my $method (qw(GET HEAD PUT PATCH DELETE OPTIONS)) {
        my $res = logout($cookie, method => $method);

        is join(' ', $res->status, map { $res->header($_) // '' } 'Allow',
            'Cache-Control'), '405 POST no-store', "T32: $method: 405";
        refused($res, 405, undef, "T32: $method: the shape")
            if $method ne 'HEAD';
    }

    refused(logout([@$cookie, ['Sec-Purpose', 'prefetch']], method => 'GET'),
        405, undef, 'T32: a prefetch');

    for my $case ([['Origin', 'https://evil.example']], [['Origin', 'null']],
        [['Origin', 'http://sibling.localhost']],
        [['Origin', 'https://localhost']],
        [['Sec-Fetch-Site', 'cross-site']], [['Sec-Fetch-Site', 'same-site']],
        [['Origin', 'https://evil.example'],
            ['Sec-Fetch-Site', 'same-origin']])
    {
        refused(logout([@$cookie, @$case]), 403, $FORBIDDEN,
            'T32: 403: ' . join ', ', map { "@$_" } @$case);
    }

    refused(logout([@$cookie, ['Origin', 'http://localhost']],
        path => '/origin'), 403, $FORBIDDEN, 'T32: an origin not listed');
    refused(logout([@$cookie, ['Content-Type', $_->[0]]], body => $_->[1],
        path => $_->[3] // '/logout'), $_->[2], undef, "T32: $_->[2]: $_->[0]")
        for ['text/plain', '', 415], ['text/plain', 'a', 415],
            ['multipart/form-data', 'a', 415], ['', 'a', 415],
            ['application/json', '{', 400], ['application/json', '[]', 400],
            [$FORM, 'redirect=%', 400], [$FORM, 'redirect=/&redirect=/', 400],
            [$FORM, 'a' x 16385, 413], [$FORM, 'a' x 21, 413, '/small'];
    refused(logout([@$cookie, ['Content-Type', $FORM]], chunked => 9,
        body => 'a' x 21, path => '/small'), 413, undef, 'T32: 413, chunked');

    counts(name => 'T32: none of which the API hears of');
    is everywhere($cookie), '200 200', 'T32: the session goes on';

    for my $case ([['Origin', 'http://localhost']],
        [['Sec-Fetch-Site', 'same-origin']], [['Sec-Fetch-Site', 'none']])
    {
        $cookie = login();
        gone(logout([@$cookie, @$case]), "T32: own pages: @{$case->[0]}");
        is everywhere($cookie), '401 401', 'T32: which do log out';
    }

    $cookie = login();
    gone(logout([@$cookie, ['Origin', 'https://app.example.com']],
        path => '/origin'), 'T32: a listed origin');
    is everywhere($cookie), '401 401', 'T32: which does log out';

    for my $case (['', ''], ['application/json', ''],
        ['application/json', '{}'], ['application/json', '{"redirect":"/a"}'],
        [$FORM, ''], [$FORM, 'csrf=1'], [$FORM, 'a' x 16384])
    {
        my ($type, $body) = @$case;

        $cookie = login();
        gone(logout([@$cookie, length $type ? ['Content-Type', $type] : ()],
            body => $body), "a body: $type " . substr $body, 0, 20);
        is everywhere($cookie), '401 401', 'and logged out';
    }
}


# T33: where to then

for my $case (['/', '/'], ['/bye?a=b#c', '/bye?a=b#c'], ['/a//b', '/a//b'],
    map { [$_, '/'] } '', '//evil.example', '/\\evil.example', '\\\\evil',
        'https://evil.example/', 'javascript:alert(1)', "/\t/evil.example",
        "/a\r\nSet-Cookie: a=b", "/\n", 'bye', '/a b', "/\xe2\x88\x95", '?a')
{
    my ($redirect, $location) = @$case;
    my $cookie = login();
    my $res = logout([@$cookie, ['Content-Type', $FORM]],
        body => 'redirect=' . url_escape($redirect));
    my $name = 'T33: ' . ($redirect =~ s/[^ -~]/./gr);

    is join(' ', $res->status, map { join '|', $res->headers($_) } 'Location',
        'Cache-Control', 'Set-Cookie'), "303 $location no-store $CLEAR", $name;
    is $res->body, '', "$name: nothing else";
    is everywhere($cookie), '401 401', "$name: and logged out";
}


# A token

{
    my $token = $api->session(user_id => 6);
    is everywhere([], $token), '200 200', 'a token: before';
    $api->reset_calls;
    gone(logout([], token => $token), 'a token');
    counts($DOWNGRADE => 1, name => 'a token: the API is told');
    is everywhere([], $token), '403 403', 'a token: it is no user\'s any more';
    is $t->get('/c/x', token => $token)->body, $NEED_USER,
        'a token: and refused as such';
    gone(logout([], token => $token), 'a token: again');

    $token = $api->session(user_id => 6);
    is everywhere([], $token), '200 200', 'a token, destroy: before';
    gone(logout([], token => $token, path => '/destroy'), 'a token, destroy');
    is live($token), undef, 'a token, destroy: it is gone';
    is $t->get('/c/x', token => $token)->body, $DEAD,
        'a token, destroy: and refused';

    gone(logout([], token => 'unknown-token'), 'an unknown token');
    gone(logout([], token => $api->session(user_id => 5),
        path => '/bare/logout'), 'without a cookie_key', '');

    # The next login of the token counts at once.
    $token = $api->session(user_id => 6);
    gone(logout([], token => $token), 'a token that is used again');
    is $t->get('/c/x', token => $token)->status, 403, 'is an application\'s';
    is $t->post('/login', "token=$token&login=bob&password=Canary-Bob-Pw",
        headers => [['Content-Type', $FORM]])->status, 200, 'and upgraded';
    is everywhere([], $token), '200 200', 'is good again';

    # With both it is the first source that counts.
    my $cookie = login();
    $token = $api->session(user_id => 6);
    gone(logout($cookie, token => $token), 'a token and a cookie');
    is live($token)->{user_id}, 0, 'the token is logged out';
}


# What is the gateway's own goes on

for my $source (qw(user application api_key none)) {
    my $before = $t->get("/$source/x");
    is $before->status, 200, "$source: before";

    $api->reset_calls;
    gone(logout([], path => "/$source/logout"), "$source: a logout");
    counts(name => "$source: ends nothing");

    my $after = $t->get("/$source/x");
    is $after->status . ' ' . $after->json->{token},
        '200 ' . $before->json->{token}, "$source: it goes on";
    is $after->header('X-Status'), $source eq 'none' ? 'OFF' : 'HIT',
        "$source: from the cache";

    my $token = $api->session(user_id => 5);
    gone(logout([], token => $token, path => "/$source/logout"),
        "$source: with a token");
    is live($token)->{user_id}, 0, "$source: which is the client's";
}


# Sessions held for a user are the user's

for my $source (qw(basic user_token)) {
    my $headers = $source eq 'basic' ? basic() : [];
    my $query = $source eq 'basic' ? '' : '?u=5';
    my $create = $source eq 'basic' ? $CREATE : 'POST /users/{id}/tokens';

    $api->reset_calls;
    gone(logout($headers, path => "/$source/logout$query"),
        "$source: none yet");
    counts(name => "$source: and none is made");

    my $token = $t->get("/$source/x$query", headers => $headers)
        ->json->{token};
    ok live($token), "$source: a session";
    $api->reset_calls;
    gone(logout($headers, path => "/$source/logout$query"),
        "$source: a logout");
    is +($api->requests($DOWNGRADE))[0]->header('QB-Token'), $token,
        "$source: the API is told";
    counts($DOWNGRADE => 1, name => "$source: once");

    gone(logout($headers, path => "/$source/logout$query"),
        "$source: again");
    counts(name => "$source: nothing is left");

    my $res = $t->get("/$source/x$query", headers => $headers);
    is $res->status, 200, "$source: the next request";
    isnt $res->json->{token}, $token, "$source: has a new one";
    counts($create => 1, name => "$source: which was made");
}

{
    # One whose password would have to be proved, and one that is suspect: to
    # end them nobody has to log in.
    my $token = $t->get('/short/x', headers => basic())->json->{token};
    $t->wait_for(sub {
        my $res = $t->request(method => 'HEAD', path => '/short/x',
            headers => basic());
        return $res->header('X-Status') eq 'MISS';
    }, 'end of basic_valid');
    $token = $t->get('/short/x', headers => basic())->json->{token};
    $backend->answer('/short/x', status => 401, times => 1);
    $t->request(method => 'HEAD', path => '/short/x', headers => basic());
    $backend->heal;
    $api->reset_calls;
    gone(logout(basic(), path => '/short/logout'), 'a suspect session', '');
    counts($DOWNGRADE => 1, name => 'it is ended and no other made');
}


# The API fails

for my $i (0 .. $#failures) {
    my ($name, %how) = @{$failures[$i]};
    my $cookie = login("/failing$i/login");

    is $t->get("/failing$i/x", headers => $cookie)->status, 200,
        "the API: $name: before";
    $api->fail(endpoint => $DOWNGRADE, %how);

    gone(logout($cookie, path => "/failing$i/logout"),
        "T32: the API: $name: logged out all the same");
    gone(logout($cookie, path => "/failing$i/logout"),
        "T32: the API: $name: again");
    isnt $t->get("/failing$i/x", headers => $cookie)->status, 200,
        "T32: the API: $name: the cookie is no good";
    $api->heal;

    # Once it answers again, though the session is still there.
    $t->wait_for(sub {
        return $t->get("/failing$i/x", token => 'unknown', headers => $cookie)
            ->status == 401;
    }, 'call of the API');
    is $t->get("/failing$i/x", headers => $cookie)->status, 401,
        "T32: the API: $name: nor later";

    my $res = $t->post("/failing$i/logout", 'redirect=/bye',
        headers => [['Content-Type', $FORM]]);
    is $res->status . $res->header('Location'), '303/bye',
        "T32: the API: $name: a redirect";
}

{
    my $cookie = login();
    $api->close_port;
    gone(logout($cookie), 'T32: the API is down');
    is everywhere($cookie), '401 401', 'T32: the cookie is no good';
    $api->open_port;
}


# At the same time

{
    $t->wait_for(sub {
        return $t->post('/login', 'login=bob&password=Canary-Bob-Pw',
            headers => [['Content-Type', $FORM]])->status == 200;
    }, 'end of the back-off');

    my $cookie = login();
    $api->fail(endpoint => $DOWNGRADE, hold => 1, times => 10);
    my @clients = map { $t->start(method => 'POST', path => '/logout',
        headers => $cookie) } 1 .. 5;
    $api->wait_held(1);

    # Until the API has answered it says that the session is alive.
    is everywhere($cookie), '200 200', 'a logout under way';
    $api->wait_held(5);
    $api->release;
    gone($_->finish, 'five at once') for @clients;
    is everywhere($cookie), '401 401', 'and nothing is left of it';
    $api->heal;

    # A page that goes on to the next one without waiting.
    for my $how (qw(abort close)) {
        $cookie = login();
        $api->fail(endpoint => $DOWNGRADE, hold => 1, times => 1);
        my $before = () = $t->error_log =~ /closed connection/g;
        my $client = $t->start(method => 'POST', path => '/logout',
            headers => $cookie);
        $api->wait_held(1);
        is everywhere($cookie), '200 200', "$how: a logout under way";
        $client->$how;
        $t->wait_for(sub {
            return $before < (() = $t->error_log =~ /closed connection/g);
        }, 'end of the client');
        $api->release;
        $t->wait_for(sub { return everywhere($cookie) eq '401 401' },
            'end of the session', 5);
        pass "$how: it ends all the same";
        $api->heal;
    }
}

is_deeply [glob $t->dir . '/nginx/client_body/*'], [],
    'no body was written to a file';

$t->done;
