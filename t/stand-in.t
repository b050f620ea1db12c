# The stand-in API keeps to the contract of the QuickBlox REST API.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(hmac_sha1_hex hmac_sha256_hex);
use Gateway;
use IO::Uncompress::Gunzip ();
use Mojo::Util qw(url_escape);
use Test::More;
use Time::HiRes ();

my $BOB = 'p&ss wörd';

my $t = Gateway->new;
my $api = $t->api(
    tls => 1,
    tls_query => 'sni=localhost',
    users => [['bob+x', $BOB, 5, 'bob@example.com'],
        ['alice', 'Canary-Alice-Pw', 6]],
);

my $nonce = 1;

sub call ($method, $path, %opt) {
    return $t->request(method => $method, path => $path,
        port => $api->port, %opt);
}

sub form (%p) {
    return (
        headers => [['Content-Type', 'application/x-www-form-urlencoded']],
        body => join('&', map { url_escape($_, '^A-Za-z0-9_.~[]-') . '='
            . url_escape($p{$_}) } sort keys %p),
    );
}

# The pairs of a good session request, with changes.
sub signed (%change) {
    my $hmac = delete $change{hmac} // \&hmac_sha1_hex;
    my $secret = delete $change{secret} // 'jyqGNhbGxkvBTgd';

    my %p = (
        application_id => 92,
        auth_key => 'wJHd4cQSxpQGWx5',
        nonce => ++$nonce,
        timestamp => time,
        %change,
    );
    delete @p{grep { !defined $p{$_} } keys %p};

    my $message = join '&', map { "$_=$p{$_}" } sort keys %p;

    return (signature => $hmac->($message, $secret), %p);
}

sub create (%change) {
    return call(POST => '/session.json', form(signed(%change)));
}

sub refused ($res, $status, $body, $name) {
    is $res->status, $status, "$name: status";
    is $res->body, $body, "$name: body";

    return;
}

my $GONE = '{"errors":{"base":["Required session does not exist"]}}';
my $NEED_USER = '{"errors":{"base":["Forbidden. Need user."]}}';


# The signatures of the documentation, at the documentation's time

{
    my %vector = (application_id => 92, auth_key => 'wJHd4cQSxpQGWx5',
        timestamp => 1795535646);
    my $skew = 1795535646 - time;

    $api->skew($skew);

    is call(POST => '/session.json', form(%vector, nonce => 1934,
        signature => '9f72e623f0345c2f1b09e4c00eb6323f867fb899'))->status,
        201, 'SHA-1';

    refused call(POST => '/session.json', form(%vector, nonce => 1934,
        signature => '9f72e623f0345c2f1b09e4c00eb6323f867fb899')),
        422, '{"errors":{"base":["nonce has already been used"]}}',
        'the same once more';

    my $res = call(POST => '/session.json',
        headers => [['Content-Type', 'application/x-www-form-urlencoded; '
            . 'charset=UTF-8']],
        body => 'application_id=92&auth_key=wJHd4cQSxpQGWx5&nonce=1472&'
            . 'signature=11aadf7f7d392c64fc2cb41f0ebafd85f3f7e4d9&'
            . 'timestamp=1795535646&user[login]=bob%2Bx&'
            . 'user[password]=p%26ss%20w%C3%B6rd');
    is $res->status, 201, 'SHA-1 with a user, form';
    is $res->json->{session}{user_id}, 5, 'is that user';

    my $sha256 = '4b1a95424ddafc7dfd3997e99aa5b367'
        . '6100a57ddae09039202e2152de428e0f';
    refused call(POST => '/session.json', form(%vector, nonce => 1934,
        signature => $sha256)), 422,
        '{"errors":{"base":["nonce has already been used"]}}',
        'SHA-256 is a good signature, too';

    $api->skew(-$skew);
}


# Creating sessions

{
    my $res = create();
    my $session = $res->json->{session};

    is $res->status, 201, 'an application session';
    is $session->{user_id}, 0, 'has no user';
    is $session->{application_id}, 92, 'has the application';
    like $session->{token}, qr/^[0-9a-f]{40}$/, 'a token';
    like $session->{created_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
        'a date';
    is $session->{_id}, "$session->{id}", 'both ids';
    like $res->header('QB-Token-ExpirationDate'),
        qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/, 'the expiry';
    like $res->header('Set-Cookie'), qr/^_mkra_ctxt=/, 'the cookie';
    is $res->header('Access-Control-Allow-Origin'), '*', 'CORS';
    is $res->raw =~ /"user_id":0/, 1, 'numbers are numbers';

    my %p = signed();
    $res = call(POST => '/session', json => {%p, nonce => $p{nonce} + 0});
    is $res->status, 201, 'JSON, without a suffix';

    # What is signed of nested JSON is user[login]=...
    %p = signed('user[login]' => 'alice',
        'user[password]' => 'Canary-Alice-Pw');
    $p{user} = {
        login => delete $p{'user[login]'},
        password => delete $p{'user[password]'},
    };
    $res = call(POST => '//session.json', json => \%p,
        token => 'stale-token-of-an-sdk');
    is $res->json->{session}{user_id}, 6, 'nested JSON, doubled slash';

    is create(hmac => \&hmac_sha256_hex)->status, 201, 'SHA-256';
    is create('user[email]' => 'bob@example.com',
        'user[password]' => $BOB)->json->{session}{user_id}, 5, 'by email';
    is create(timestamp => time - 3590)->status, 201, 'nearly an hour ago';
}

refused create(timestamp => time + $_), 422,
    '{"errors":{"base":["Bad timestamp"]}}', "timestamp $_" for -3610, 3610;
is create(timestamp => 1)->header('QB-Token-ExpirationDate'), undef,
    'no expiry with that';

refused create(secret => 'wrong'), 422,
    '{"errors":{"base":["Unexpected signature"]}}', 'a wrong secret';
refused create(application_id => 99), 422,
    '{"errors":{"base":["Application not found"]}}', 'no such application';
refused create(auth_key => 'wrong'), 422,
    '{"errors":{"base":["Application not found"]}}', 'another key';
refused create(nonce => undef), 422,
    '{"errors":{"base":["nonce is required"]}}', 'no nonce';
refused create('user[login]' => 'bob+x', 'user[password]' => 'wrong'), 401,
    '{"errors":["Unauthorized"]}', 'a wrong password';
refused create('user[login]' => 'BOB+x', 'user[password]' => $BOB), 401,
    '{"errors":["Unauthorized"]}', 'a login in another case';
ok create('user[login]' => 'x', 'user[password]' => 'y')
    ->header('QB-Token-ExpirationDate'), 'with an expiry all the same';
is call(POST => '/session.json', body => '{"a":',
    headers => [['Content-Type', 'application/json']])->status, 400,
    'no JSON';


# Asking for a session, expiry

{
    my $token = $api->session(application_id => 92, user_id => 5,
        lifetime => 100);
    my $res = call(GET => '/session.json', token => $token);

    is $res->status, 200, 'a live session';
    is $res->json->{session}{token}, $token, 'with its token';

    my $date = qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000$/;
    my $first = $res->header('QB-Token-ExpirationDate');
    my $second = call(GET => '/session', token => $token)
        ->header('QB-Token-ExpirationDate');
    like $first, $date, 'the expiry in its other form';
    ok $second gt $first, 'as it was before the request moved it';

    $api->set(expiration => 'after');
    my $now = call(GET => '/session', token => $token)
        ->header('QB-Token-ExpirationDate');
    ok $now ge $second, 'or after it';
    $api->set(expiration => 'off');
    is call(GET => '/session', token => $token)
        ->header('QB-Token-ExpirationDate'), undef, 'or not at all';
    $api->set(expiration => 'before');

    $api->advance(7190);
    is call(GET => '/session.json', token => $token)->status, 200,
        'lives for two hours';
    $api->advance(7190);
    is call(GET => '/users.json', token => $token)->status, 200,
        'after the last request';
    $api->advance(7210);
    refused call(GET => '/session.json', token => $token), 401, $GONE,
        'then it is gone';
    is call(GET => '/session.json', token => $token)
        ->header('QB-Token-ExpirationDate'), undef, 'without an expiry';

    refused call(GET => '/session.json'), 401,
        '{"errors":["Token is required"]}', 'no token';
    refused call(GET => '/session.json', token => 'unknown-token'), 401,
        $GONE, 'an unknown token';

    $token = $api->session(user_id => 5);
    is call(GET => "/users.json?token=$token")->status, 200,
        'a token in the query';
    refused call(GET => '/session.json', token => uc $token), 401, $GONE,
        'a token in another case' if uc $token ne $token;

    is $api->expire($token), 1, 'expire';
    refused call(GET => '/session.json', token => $token), 401, $GONE,
        'an expired one';

    $api->expire_all;
    my @tokens = map { $api->session(user_id => $_) } 5, 5, 6;
    is $api->expire_user(5), 2, 'the tokens of a user';
    is call(GET => '/session.json', token => $tokens[2])->status, 200,
        'not those of another';
    ok $api->sessions >= 1, 'the list of sessions';
    $api->expire_all;
    is scalar(my @left = $api->sessions), 0, 'all of them';

    $token = $api->session(application_id => 93, user_id => 0);
    is call(GET => '/session.json', token => $token)
        ->json->{session}{application_id}, 93,
        'the session of another application is a session';

    $api->set(tokens => 'jwt');
    like create()->json->{session}{token},
        qr/^eyJhbGciOiJIUzUxMiIs[\w-]+\.[\w-]+\.[\w-]{80,}$/, 'a JWT';
    $api->set(tokens => 'hex', dates => 'offset');
    like create()->json->{session}{created_at}, qr/\+00:00$/,
        'dates in their other form';
    $api->set(dates => 'Z');
}


# Login and logout keep the token

{
    my $token = $api->session;
    my @login = form(login => 'alice', password => 'Canary-Alice-Pw');
    my $user = sub {
        call(GET => '/session.json', token => $token)
            ->json->{session}{user_id};
    };

    my $res = call(POST => '/login.json', token => $token, @login);
    is $res->status, 202, 'login';
    is $res->json->{user}{id}, 6, 'the user';
    is $user->(), 6, 'the token is the user\'s';

    $res = call(DELETE => '/login.json', token => $token);
    is $res->status, 200, 'logout';
    is $res->body, ' ', 'one blank';
    is $user->(), 0, 'the token is the application\'s again';

    $res = call(POST => '/login', token => $token,
        json => {email => 'bob@example.com', password => $BOB =~
            s/ö/\x{f6}/r});
    is $user->(), 5, 'another user on the same token';

    $res = call(POST => '/login.json', token => $token,
        form(login => 'alice', password => 'no'));
    refused $res, 401, '{"errors":["Unauthorized"]}', 'a wrong password';
    ok $res->header('QB-Token-ExpirationDate'), 'slides the session';

    $res = call(DELETE => '/session.json', token => $token);
    is $res->body, ' ', 'destroyed';
    refused call(GET => '/session.json', token => $token), 401, $GONE,
        'and gone';
}


# Rights

{
    my $app = $api->session;
    my $user = $api->session(user_id => 5);
    my @item = form(text => 'hello');

    is call(GET => '/data/Note.json', token => $app)->status, 200,
        'an application session reads';
    refused call(POST => '/data/Note.json', token => $app, @item), 422,
        $NEED_USER, 'and does not write';
    refused call(GET => '/chat/Dialog.json', token => $app), 422,
        $NEED_USER, 'nor has it dialogs';
    is call(POST => '/data/Note.json', token => $user, @item)->status, 201,
        'a user writes';
    is call(GET => '/data/Note.json', token => $app)
        ->json->{items}[0]{text}, 'hello', 'what can be read';
    is call(POST => '/chat/Dialog.json', token => $user,
        form(type => 3, name => 'x'))->status, 201, 'makes a dialog';
    is call(GET => '/chat/Dialog.json', token => $user)
        ->json->{total_entries}, 1, 'has it';

    is call(GET => '/users/5.json', token => $app)->json->{user}{login},
        'bob+x', 'a user';
    is call(GET => '/users/77.json', token => $app)->status, 404,
        'no such user';
    is call(GET => '/users.json', token => $app)->json->{total_entries}, 2,
        'the users';

    my @new = form('user[login]' => 'carol',
        'user[password]' => 'Canary-Carol-Pw', 'user[full_name]' => 'Carol');
    my $res = call(POST => '/users.json', token => $app, @new);
    is $res->status, 201, 'a new user';
    is $res->json->{user}{full_name}, 'Carol', 'with a name';
    refused call(POST => '/users.json', token => $app, @new), 422,
        '{"errors":{"base":["login has already been taken"]}}', 'taken';
    is create('user[login]' => 'carol',
        'user[password]' => 'Canary-Carol-Pw')->status, 201, 'can log in';

    $api->set(create_user => 0);
    refused call(POST => '/users.json', token => $app, @new), 422,
        $NEED_USER, 'users are not created by applications';
    $api->set(create_user => 1);

    $api->user(id => 6, password => 'Canary-New-Pw');
    refused create('user[login]' => 'alice',
        'user[password]' => 'Canary-Alice-Pw'), 401,
        '{"errors":["Unauthorized"]}', 'a changed password';
    my $alice = create('user[login]' => 'alice',
        'user[password]' => 'Canary-New-Pw')->json->{session}{token};
    ok $alice, 'the new one';
    $api->user(id => 6, delete => 1);
    refused call(GET => '/session.json', token => $alice), 401, $GONE,
        'a deleted user';
}


# The API key

{
    my $key = ['Authorization', 'ApiKey Canary-Api-Key-92'];
    my $res = call(POST => '/users/5/tokens', headers => [$key],
        token => 'ignored-token');

    is $res->status, 201, 'a token for a user';
    is call(GET => '/session.json', token => $res->json->{token})
        ->json->{session}{user_id}, 5, 'is the user\'s';
    like $res->json->{expires_at}, qr/^\d{4}-.*Z$/, 'expires';

    $res = call(POST => '/users/77/tokens', headers => [$key]);
    is $res->status, 404, 'no such user';
    is ref $res->json->{errors}{base}, 'ARRAY', 'says so';
    is call(POST => '/users/5/tokens', headers => [
        ['Authorization', 'ApiKey wrong']])->status, 401, 'a wrong key';
    is call(POST => '/users/5/tokens',
        token => $api->session(user_id => 5))->status, 401, 'no key';

    is call(POST => '/data/Note', headers => [$key, ['On-Behalf-Of', 5]],
        json => {text => 'x'})->json->{user_id}, 5, 'writes for a user';
    is call(GET => '/chat/Dialog.json',
        headers => [$key, ['On-Behalf-Of', 5]])->json->{total_entries}, 1,
        'acts for a user';
}


# Other paths

is call(GET => '/nonsense')->status, 404, 'a wrong path';
is call(GET => '/Session.json', token => 'x')->status, 404,
    'case matters';
is call(GET => '/account_settings.json')->json->{api_endpoint},
    'http://localhost', 'account settings need no token';

{
    my $res = call(OPTIONS => '/chat/Dialog.json', headers => [
        ['Origin', 'https://page.test'],
        ['Access-Control-Request-Method', 'GET'],
        ['Access-Control-Request-Headers', 'QB-Token'],
    ]);
    is $res->status, 200, 'a preflight';
    is $res->header('Access-Control-Allow-Headers'), 'QB-Token',
        'allows the header';

    my $token = $api->session;
    $res = call(GET => '/users.json', token => $token);
    $res = call(GET => '/users.json', token => $token,
        headers => [['If-None-Match', $res->header('ETag')]]);
    is $res->status, 304, 'not modified';
    ok $res->header('QB-Token-ExpirationDate'), 'with the expiry';
    is call(HEAD => '/users.json', token => $token)->body, '', 'HEAD';
}

$api->set(host => 'api.test');
refused call(GET => '/session.json'), 404,
    '{"code":null,"message":"Possible subdomains: api"}', 'a wrong Host';
is call(GET => '/session.json', host => 'api.test')->status, 401,
    'the right one';
$api->set(host => '');

$api->set(rate => 1);
my @many = map { call(GET => '/account_settings') } 1 .. 4;
ok scalar(grep { $_->status == 429 && $_->header('Retry-After') } @many),
    'too many requests';
$api->set(rate => 0);

$api->set(close_errors => 1);
is call(GET => '/nonsense', keepalive => 1)->header('Connection'), 'close',
    'errors that close';
$api->set(close_errors => 0);


# TLS

{
    my @tls = (port => $api->tls_port, ssl => 1);

    is $t->get('/session.json', @tls)->status, 401, 'TLS';
    like $t->get('/session.json', @tls, sni => 'other.test')->error, qr/tls/,
        'another server name is refused';
    is +($api->requests)[-1]{sni}, 'localhost', 'the name is recorded';
}


# Calls, connections

{
    $api->reset_calls;
    my $before = $api->connections->{accepted};
    my $client = $t->client(port => $api->port);

    $client->get('/session.json', headers => [['X-B', 1], ['x-a', ''],
        ['X-B', 2]]);
    $client->post('//login', 'a=b');
    $client->get('/users/5');

    is_deeply $api->counts, {'GET /session.json' => 1,
        'POST /login.json' => 1, 'GET /users/{id}.json' => 1}, 'counts';
    is $api->calls, 3, 'all calls';
    is $api->calls('GET /users.json'), 0, 'none';

    my ($get, $post) = $api->requests;
    is_deeply $get->{headers}, [['Host', 'localhost'], ['X-B', 1],
        ['x-a', ''], ['X-B', 2]], 'headers as they came';
    is $post->{body}, 'a=b', 'a body';
    is $post->{uri}, '//login', 'a URI';
    is $get->{connection}, $post->{connection}, 'the same connection';
    is $api->connections->{accepted}, $before + 1, 'is one connection';
    is scalar(my @found = $api->requests('POST /login.json')), 1,
        'requests of an endpoint';

    $client->close;
}


# Failures

{
    my $token = $api->session(user_id => 5);
    my $ask = sub (%opt) {
        call(GET => '/session.json', token => $token, timeout => 5, %opt);
    };
    my $fail = sub (%how) {
        $api->heal;
        $api->fail(endpoint => 'GET /session.json', %how);
    };

    $fail->(status => 500, body => '{"status":"500"}', times => 1);
    my $res = $ask->();
    is $res->status, 500, 'a status';
    is $res->body, '{"status":"500"}', 'a body';
    is $ask->()->status, 200, 'once';

    $fail->(status => 429, headers => [['Retry-After', 7]], skip => 1);
    is_deeply [map { $ask->()->status } 1 .. 3], [200, 429, 429],
        'from the second time on';
    is $ask->()->header('Retry-After'), 7, 'with a header';
    is call(GET => '/users.json', token => $token)->status, 200,
        'other endpoints do not fail';

    $fail->(status => 500, token => $token);
    is $ask->(token => undef)->status, 401, 'only for that token';
    is $ask->()->status, 500, 'this one';

    $fail->(headers => [['Content-Type', undef]]);
    is $ask->()->header('Content-Type'), undef, 'a header removed';

    $fail->(patch => {session => {user_id => '7', application_id => 93.5}});
    is $ask->()->json->{session}{user_id}, '7', 'an answer changed';
    is $ask->()->json->{session}{token}, $token, 'but not all of it';

    $fail->(body => '{"session":{"token":"{{token}}"}}');
    is $ask->()->json->{session}{token}, $token, 'a body of one\'s own';

    $fail->(raw => "HTTP/1.1 2000 \0\r\n\r\n");
    like $ask->()->raw, qr/^HTTP\/1.1 2000 \0/, 'raw';
    $fail->(raw => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        keep => 1);
    {
        my $client = $t->client(port => $api->port);
        is $client->get('/session.json')->body, 'x', 'raw, kept alive';
        is $client->get('/session.json')->body, 'x', 'once more';
    }

    for my $at (qw(before headers body last)) {
        $fail->(reset => $at);
        like $ask->()->error, qr/^reset/, "reset $at";
        $fail->(cut => $at);
        is $ask->()->error, 'closed', "cut $at";
    }

    $fail->(reset => 'last');
    $res = $ask->();
    is length $res->body, $res->header('Content-Length') - 1,
        'all but one byte';

    $fail->(delay => 0.1);
    my $start = Time::HiRes::time();
    is $ask->()->status, 200, 'a delay';
    cmp_ok Time::HiRes::time() - $start, '>=', 0.1, 'of that length';

    $fail->(drip => 20);
    is $ask->(timeout => 0.2)->error, 'timeout', 'byte by byte';
    $fail->(drip => 20_000);
    is $ask->()->status, 200, 'faster';

    $fail->(blackhole => 1);
    is $ask->(timeout => 0.1)->error, 'timeout', 'no answer';

    $fail->(chunked => 1, extension => 'a=b', trailers => [['X-T', 1]]);
    $res = $ask->();
    ok @{$res->chunks} > 50, 'chunks of one byte';
    is $res->json->{session}{user_id}, 5, 'with extensions';
    is_deeply $res->trailers, [['X-T', 1]], 'and trailers';

    $fail->(split => 'each', body => 'abc');
    is $ask->()->body, 'abc', 'split';
    $fail->(huge => 1_000_000);
    is length $ask->()->body, 1_000_000, 'a long body';
    $fail->(huge => 'endless');
    is $ask->(timeout => 0.1)->error, 'timeout', 'an endless one';

    $fail->(gzip => 1);
    $res = $ask->();
    IO::Uncompress::Gunzip::gunzip(\$res->body => \my $plain);
    like $plain, qr/"session"/, 'gzip';

    $fail->(no_length => 1, version => '1.0');
    $res = $ask->();
    is $res->version, '1.0', 'HTTP/1.0';
    is $res->header('Content-Length'), undef, 'without a length';
    ok $res->json, 'to the close';
    $fail->(length => 5);
    is length $ask->()->body, 5, 'a wrong length';
    $fail->(before => "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n");
    is $ask->()->interim->[0]->status, 103, 'an interim answer';

    $fail->(hold => 1);
    my @held;
    for (1 .. 3) {
        push @held, $t->start(path => '/session.json', token => $token,
            port => $api->port);
        $api->wait_held($_);
    }
    is $api->release(1), 1, 'one let go';
    is $held[0]->finish->status, 200, 'is answered';
    is $api->held, 2, 'two are left';
    $held[1]->abort;
    ok $t->wait_for(sub { $api->held == 1 }), 'one goes away';
    is $api->release, 1, 'is no longer held';
    is $held[2]->finish->status, 200, 'the other is answered';

    $api->heal;
    is $ask->()->status, 200, 'healed';
}

$t->done;
