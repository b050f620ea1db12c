# Sessions in sealed cookies, through the gateway: what opens (T28, T58), what
# a browser is told (T30), how long one lives (T17, T50, cookie_lifetime),
# whose it is, and what becomes of it when the session has expired.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(decode_base64url encode_base64url);
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

my $hex = unpack 'H*', 'Canary-Cookie-Key-of-32-bytes-..';
my $key = $t->write('key', $hex);
my $stranger = $t->write('stranger', 'ab' x 32);
chmod 0600, $key, $stranger;
$t->secret($hex, 'Canary-Cookie-Key');

my $VALIDATION = 'GET /session.json';
my $LOGIN = 'POST /session.json';

# Applications by name, with what differs.
my %application = (
    chat => '',
    named => 'cookie qb "Path=/; HttpOnly";',
    # The same name, and two applications of QuickBlox.
    other => 'application_id 93; cookie qb Path=/;',
    # A name of the same length.
    twin => 'cookie qc Path=/;',
    # The same name, and other keys.
    stranger => "cookie qb Path=/; cookie_key $stranger;",
    short => 'cookie qb Path=/; cookie_lifetime 2s;',
    # Asks again before each refusal.
    eager => 'cookie qb Path=/; cache_invalid 0;',
    # Validates anew each second.
    brief => 'cookie brief Path=/; cache_valid 1s;',
    secure => 'cookie __Secure-qb Secure SameSite=Strict HttpOnly '
        . 'Path=/secure/ Domain=example.com Partitioned;',
    lower => 'cookie __host-qb secure path=/;',
);

my ($applications, $locations) = ('', '');

for my $name (sort keys %application) {
    my $own = $application{$name};
    my $id = $own =~ /application_id/ ? '' : 'application_id 92;';
    my $cookie_key = $own =~ /cookie_key/ ? '' : "cookie_key $key;";
    my ($auth_key, $secret) = $id ? qw(wJHd4cQSxpQGWx5 jyqGNhbGxkvBTgd)
        : qw(authkey93 Canary-Secret-93);

    $applications .= <<"END";
quickblox_application $name {
    api %%API%%;
    auth_key $auth_key;
    auth_secret $secret;
    login gateway;
    password Canary-Gateway-Pw;
    zone $name 256k;
    $id
    $cookie_key
    $own
}
END

    $locations .= <<"END";
    location = /$name/login { quickblox $name; quickblox_login; }
    location = /$name/logout { quickblox $name; quickblox_logout; }
    location = /$name/me { quickblox $name; quickblox_check; }
    location /$name/ {
        quickblox $name;
        quickblox_session cookie;
        proxy_pass %%BACKEND%%;
        location /$name/client/ {
            quickblox_session client cookie;
            proxy_pass %%BACKEND%%;
        }
        location /$name/first/ {
            quickblox_session cookie client;
            proxy_pass %%BACKEND%%;
        }
        location /$name/user/ {
            quickblox_session cookie user;
            proxy_pass %%BACKEND%%;
        }
        location /$name/page/ {
            error_page 401 =302 /login-page;
            proxy_pass %%BACKEND%%;
        }
        location /$name/away/ {
            error_page 401 =302 https://login.example.com/;
            proxy_pass %%BACKEND%%;
        }
        location /$name/proxied/ {
            error_page 401 = \@login;
            proxy_pass %%BACKEND%%;
        }
        location /$name/intercepted/ {
            proxy_intercept_errors on;
            error_page 401 =302 /login-page;
            proxy_pass %%BACKEND%%;
        }
    }
END
}

my $nginx = $t->nginx(<<"END", workers => 2);
$applications

large_client_header_buffers 4 1m;
keepalive_requests 100000;
proxy_http_version 1.1;

server {
    listen 127.0.0.1:%%PORT_0%%;
    add_header X-Seen "\$quickblox_status|\$quickblox_user_id" always;

$locations
    location = /login-page {
        return 200 login;
    }
    location \@login {
        rewrite ^ /login-proxied break;
        proxy_pass %%BACKEND%%;
    }
}
END

my $DEAD = '{"errors":{"base":["Required session does not exist"]}}';
my $MISSING = '{"errors":["Token is required"]}';
my $EPOCH = 'Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT';

my %name = (chat => '__Host-quickblox', brief => 'brief', twin => 'qc',
    secure => '__Secure-qb', lower => '__host-qb');
my %attributes = (
    chat => 'Secure; HttpOnly; SameSite=Lax; Path=/',
    named => 'Path=/; HttpOnly',
    secure => 'Secure; SameSite=Strict; HttpOnly; Path=/secure/; '
        . 'Domain=example.com; Partitioned',
    lower => 'secure; path=/',
);

sub name ($application) { return $name{$application} // 'qb' }

sub clear ($application) {
    return name($application) . "=; $EPOCH; "
        . ($attributes{$application} // 'Path=/');
}

my $client = $t->client;

sub cookies (@values) {
    return headers => [map { ['Cookie', $_] } @values];
}

sub value ($application, $res) {
    my ($value) = ($res->header('Set-Cookie') // '')
        =~ /^\Q@{[name($application)]}\E=([^;]+)/;

    die 'no cookie: ' . $res->raw if !defined $value;
    $t->secret($value);

    return $value;
}

# The value of a new cookie for a session that the API has: of user 5 unless
# another one, or a token, is given.
sub cookie ($application, %session) {
    my $token = $session{token} // $api->session(user_id => 5, %session,
        $application eq 'other' ? (application_id => 93) : ());

    return value($application, $client->request(json => {token => $token},
        path => "/$application/login"));
}

sub with ($application, @values) {
    my $name = name($application);

    return cookies(join '; ', map { "$name=$_" } @values);
}

# What comes of a request: the token that the backend got, or the refusal and
# whether the cookie was cleared.
sub outcome ($application, $res) {
    return $res->json->{token} if $res->status == 200 && $res->json
        && defined $res->json->{token};

    my @set = $res->headers('Set-Cookie');

    return join ' ', $res->status, $res->body =~ s/\s+\z//r,
        map { $_ eq clear($application) ? 'cleared' : "set: $_" } @set;
}

sub sent ($application, @headers) {
    return outcome($application,
        $client->get("/$application/a", @headers));
}

my $REFUSED = "401 $DEAD cleared";

sub refused ($application, $name, @headers) {
    is sent($application, @headers), $REFUSED, "$name: refused and cleared";

    return;
}


# T28: every bit of a real cookie

# Of a length that leaves bits of the last digit unused.
my $bob = $api->session(user_id => 5, token => 'Canary-Token-' . 'b' x 28);
my $good = cookie('chat', token => $bob);
my $bytes = decode_base64url($good);

is sent('chat', with('chat', $good)), $bob, 'T28: a cookie serves';

{
    $api->reset_calls;
    $backend->reset;

    my (%wrong, $tried);

    my $try = sub ($what, $value) {
        my $res = $client->get('/chat/a', with('chat', $value));
        my $got = outcome('chat', $res);
        $tried++;
        $wrong{$what} = $got if $got ne $REFUSED;
    };

    for my $bit (0 .. 8 * length($bytes) - 1) {
        my $changed = $bytes;
        vec($changed, $bit, 1) ^= 1;
        $try->("bit $bit", encode_base64url($changed));
    }

    is_deeply \%wrong, {}, 'T28: each bit of what is sealed: refused, cleared';
    is $tried, 8 * (1 + 12 + 24 + length($bob) + 16), 'T28: which were all';

    is length($bytes) % 3, 1, 'T28: there are bits that say nothing';

    # A line end or a zero byte would be no header any more.
    for my $bit (0 .. 8 * length($good) - 1) {
        my $changed = $good;
        vec($changed, $bit, 1) ^= 1;
        $try->("text bit $bit", $changed) if $changed !~ /[\r\n\0]/;
    }

    $try->("the first $_", substr $good, 0, $_) for 0 .. length($good) - 1;
    $try->("without the first $_", substr $good, $_) for 1 .. 20;
    $try->("and $_", $good . $_) for 'A', 'AA', 'AAA', 'AAAA', '=', '==', '.',
        '%', '"', ',', "\t.", '+', '/', $good;
    $try->("$_ before", $_ . $good) for 'A', 'AAAA', '=', '"', '.', ',';
    $try->('the standard alphabet', $good =~ tr{-_}{+/}r)
        if $good =~ /[-_]/;
    $try->('another case', $good ^ ($good =~ s/[^A-Za-z]/\0/gr
        =~ s/[A-Za-z]/ /gr));
    $try->('in hex', unpack 'H*', $bytes);
    $try->('the token itself', $bob);
    $try->('a token that is none', 'a' x 40);
    $try->('long', 'A' x $_) for 1436, 1437, 4096, 65536;

    is_deeply \%wrong, {}, 'T28: each bit of its text, each part of it, and '
        . 'other texts: refused and cleared';

    is $api->calls, 0, 'T28: the API was asked for none of them';
    is $backend->hits, 0, 'T28: and the backend saw nothing';
    is sent('chat', with('chat', $good)), $bob, 'T28: the cookie still serves';
    is sent('chat', cookies("$name{chat}= \t$good \t")), $bob,
        'T28: blanks around it are not its own';
}


# T28: swapped

{
    my $token = $api->session(user_id => 5);
    my %sealed = map { $_ => cookie($_, token => $token) }
        qw(named stranger twin);
    my $foreign = cookie('other');

    is sent($_, with($_, $sealed{$_})), $token, "T28: one of $_"
        for sort keys %sealed;

    refused('chat', 'T28: one of another name', with('chat', $sealed{named}));
    refused('named', 'T28: the other way', with('named', $good));
    refused('twin', 'T28: of a name of the same length',
        with('twin', $sealed{named}));
    refused('named', 'T28: another application, one name and key',
        with('named', $foreign));
    refused('other', 'T28: the other way', with('other', $sealed{named}));
    refused('named', 'T28: another key', with('named', $sealed{stranger}));
    refused('stranger', 'T28: the other way',
        with('stranger', $sealed{named}));

    is outcome('named', $client->get('/named/a', with('chat', $good))),
        "401 $MISSING", 'T28: under another name it is no credential';
    is outcome('named', $client->get('/named/a',
        cookies("QB=$sealed{named}; xqb=$sealed{named}"))),
        "401 $MISSING", 'T28: and a name has a case';
}


# T27: no nonce twice, in no worker

{
    my $token = $api->session(user_id => 5);
    my (%nonces, %values);

    for (1 .. 60) {
        my $res = $t->request(json => {token => $token},
            path => '/named/login');
        my $value = value('named', $res);
        $values{$value}++;
        $nonces{substr decode_base64url($value), 1, 12}++;
    }

    is scalar(keys %nonces), 60, 'T27: a nonce of its own for each of 60';
    is scalar(keys %values), 60, 'T27: so none is like another';
}


# T30: what the browser is told

for my $application (sort keys %attributes) {
    my $name = name($application);
    my $res = $client->request(path => "/$application/login",
        json => {login => 'bob', password => 'Canary-Bob-Pw'});
    my $value = value($application, $res);

    is_deeply [$res->headers('Set-Cookie')],
        ["$name=$value; $attributes{$application}"],
        "T30: $application: attributes, in one Set-Cookie";
    ok length("$name=$value; $attributes{$application}") < 4096,
        "T30: $application: no longer than browsers take";
    like $value, qr/\A[A-Za-z0-9_-]+\z/, "T30: $application: no odd byte";

    $res = $client->request(path => "/$application/logout", method => 'POST',
        with($application, $value));
    is_deeply [$res->status, $res->headers('Set-Cookie')],
        [200, clear($application)],
        "T30: $application: cleared with the same attributes";
}

{
    my $long = $api->session(user_id => 5, token => 'l' x 1024);
    my $value = cookie('secure', token => $long);

    is length $value, 1436, 'T30: of the longest token it is within limits';
    is sent('secure', with('secure', $value)), $long, 'T30: and serves';

    my ($short) = $api->session(user_id => 5, token => 'eight-by');
    is sent('chat', with('chat', cookie('chat', token => $short))), $short,
        'T30: the shortest, too';
}

# With what a cookie is not cleared
{
    my %not = (
        'no cookie' => ["401 $MISSING", '/chat/a'],
        'another cookie' => ["401 $MISSING", '/chat/a', cookies('a=b')],
        'a bad token of the client' => ["401 $DEAD", '/chat/client/',
            headers => [['Cookie', "$name{chat}=$good"],
                ['QB-Token', 'dead-token']]],
        'a good token of the client' => [$bob, '/chat/client/',
            headers => [['Cookie', "$name{chat}=x"], ['QB-Token', $bob]]],
    );

    for my $what (sort keys %not) {
        my ($expected, $path, @headers) = @{$not{$what}};
        is outcome('chat', $client->get($path, @headers)), $expected,
            "T30: $what: nothing is set";
    }

    is outcome('chat', $client->get('/chat/first/', headers => [
        ['Cookie', "$name{chat}=x"], ['QB-Token', $bob]])), $REFUSED,
        'a bad cookie is refused where a good token came later';
    is outcome('chat', $client->get('/chat/user/', with('chat', 'x'))),
        $REFUSED, 'and where the gateway has a session';
}


# T31: a login makes a session of its own, whatever cookie comes with it

{
    my $theirs = $api->session(user_id => 6);
    my $planted = cookie('chat', token => $theirs);

    my $res = $client->request(path => '/chat/login',
        json => {login => 'bob', password => 'Canary-Bob-Pw'},
        with('chat', $planted));
    my $value = value('chat', $res);
    my $token = sent('chat', with('chat', $value));

    isnt $token, $theirs, 'T31: a login is not given the planted session';
    like $token, qr/^[0-9a-f]{40}$/, 'T31: but one of its own';
    is $client->get('/chat/me', with('chat', $value))
        ->json->{session}{user_id}, 5, 'T31: of the user who logged in';
    is sent('chat', with('chat', $planted)), $theirs,
        'T31: and the planted one is as it was';
}


# T58: several cookies of the name

{
    my ($one, $two) = map { $api->session(user_id => $_) } 5, 6;
    my $stale = cookie('stranger', token => $one);
    my $first = cookie('named', token => $one);
    my $again = cookie('named', token => $one);
    my $second = cookie('named', token => $two);

    my @several = (
        # how it is called, the cookies in order, what comes of it
        ['one opens, the stale one first', [$stale, $first], $one],
        ['one opens, the stale one last', [$first, $stale], $one],
        ['one opens, an empty one first', ['', $first], $one],
        ['one opens, rubbish around', ['x', $first, '%'], $one],
        ['one opens, the fourth', [$stale, 'x', '', $first], $one],
        ['one opens, the fifth', [$stale, 'x', '', 'y', $first], $REFUSED],
        ['both open, one session', [$first, $again], $one],
        ['both open, one session, the other way', [$again, $first], $one],
        ['the same twice', [$first, $first], $one],
        ['both open, two sessions', [$first, $second], $REFUSED],
        ['both open, two sessions, the other way', [$second, $first],
            $REFUSED],
        ['two of three sessions, a stale one between',
            [$first, $stale, $second], $REFUSED],
        ['none opens', [$stale, 'x'], $REFUSED],
        ['none opens, the other way', ['x', $stale], $REFUSED],
    );

    for my $case (@several) {
        my ($what, $values, $expected) = @$case;
        my @pairs = map { "qb=$_" } @$values;

        is sent('named', cookies(join '; ', 'a=b', @pairs, 'c=d')), $expected,
            "T58: $what";
        is sent('named', cookies(@pairs)), $expected,
            "T58: $what, in several headers";
    }

    # __Host-: there is but one, or somebody has made the others.
    for my $pair ([$good, $good], [$good, 'x'], ['x', $good], ['', $good],
        [$good, $stale])
    {
        refused('chat', 'T58: __Host-, two of them', with('chat', @$pair));
        refused('chat', 'T58: __Host-, two headers',
            cookies(map { "$name{chat}=$_" } @$pair));
    }

    my $lower = cookie('lower');
    refused('lower', 'T58: __host-, two of them',
        with('lower', $lower, $lower));

    # Login and logout always work.
    for my $pair ([$stale, $first], [$first, $second], ['x', 'y']) {
        my $res = $client->request(path => '/named/login',
            json => {login => 'alice', password => 'Canary-Alice-Pw'},
            with('named', @$pair));
        my $value = value('named', $res);
        my $token = sent('named', with('named', $value));

        like $token, qr/^[0-9a-f]{40}$/, 'T58: a login with two cookies';

        $res = $client->request(method => 'POST', path => '/named/logout',
            with('named', 'x', $value));
        is outcome('named', $res), '200 {} cleared',
            'T58: a logout with two cookies';
        refused('named', 'T58: and it has ended the one that opens',
            with('named', $value));
    }

    for my $pair ([$first, $second], ['x', 'y']) {
        is outcome('named', $client->request(method => 'POST',
            path => '/named/logout', with('named', @$pair))),
            '200 {} cleared', 'T58: a logout with two that do not count';
    }

    is sent('named', with('named', $first)), $one,
        'T58: ends neither of two sessions';
}


# T29: many of them, and long ones

{
    my @others = map { "cookie$_=value-$_" } 1 .. 10_000;
    my @many = (
        # the Cookie headers, what comes of it
        ['10,000 others', [join '; ', @others, "qb=$good"], undef],
        ['10,000 of the name', [join '; ', ("qb=x") x 10_000], $REFUSED],
        ['10,000 without a name', [join ';', ('') x 10_000, 'qb=x'],
            $REFUSED],
        ['300 headers of 30', [map { my $n = $_; join '; ',
            map { "qb$n-$_=x" } 1 .. 30 } 1 .. 300], undef],
        ['one of 500 KB', ['qb=' . 'A' x 500_000], $REFUSED],
        ['500 KB of blanks', ['qb=' . ' ' x 500_000 . 'A'], $REFUSED],
        ['500 KB of "="', ['=' x 500_000], undef],
    );

    for my $case (@many) {
        my ($what, $headers, $expected) = @$case;
        my $began = time;

        is sent('other', cookies(@$headers)),
            $expected // ($what =~ /others/ ? $REFUSED : "401 $MISSING"),
            "T29: $what";
        cmp_ok time - $began, '<', 2, "T29: $what: in no time";
    }

    my $value = cookie('named', token => $bob);
    my $res = $client->get('/named/a', cookies(join '; ', @others[0 .. 4999],
        "qb=$value", @others[5000 .. 9999]));
    is $res->status, 200, 'T29: one of 10,001 serves';
    is_deeply [map { $_->[1] } grep { lc $_->[0] eq 'cookie' }
        @{$res->json->{headers}}], [join '; ', @others],
        'T29: and the 10,000 others are handed on as they are';
}


# T17: after a logout it is refused at once, in all workers

{
    my $token = $api->session(user_id => 5);
    my $value = cookie('chat', token => $token);

    my $statuses = sub {
        my @all = map { $t->start(path => '/chat/a', with('chat', $value)) }
            1 .. 40;
        my %count;
        $count{outcome('chat', $_->finish)}++ for @all;
        return \%count;
    };

    is_deeply $statuses->(), {$token => 40}, 'T17: known to all workers';
    is outcome('chat', $client->request(method => 'POST',
        path => '/chat/logout', with('chat', $value))), '200 {} cleared',
        'T17: logged out';
    is_deeply $statuses->(), {$REFUSED => 40},
        'T17: refused at once by all, and cleared';
}

# Nothing that is cached counts while the API is told, nor what it has said of
# the session meanwhile once it is.
{
    my $token = $api->session(user_id => 5);
    my $value = cookie('chat', token => $token);

    $api->fail(endpoint => 'DELETE /login.json', hold => 1, times => 1);
    my $logout = $t->start(method => 'POST', path => '/chat/logout',
        with('chat', $value));
    $api->wait_held(1);

    $api->reset_calls;
    is sent('chat', with('chat', $value)), $token,
        'T17: a logout under way: the API still knows the session';
    is $api->calls($VALIDATION), 1, 'T17: and was asked';

    $api->release;
    is outcome('chat', $logout->finish), '200 {} cleared',
        'T17: the logout has ended';
    refused('chat', 'T17: so has what was learnt meanwhile',
        with('chat', $value));
}

# Also where the API has not been told of it: from then on it decides.
{
    my $token = $api->session(user_id => 5);
    my $value = cookie('chat', token => $token);

    $api->fail(endpoint => 'DELETE /login.json', status => 503, times => 1);
    is outcome('chat', $client->request(method => 'POST',
        path => '/chat/logout', with('chat', $value))), '200 {} cleared',
        'T17: a logout that the API has not heard clears the cookie';
    $api->heal;

    # The API has failed, so it is not asked for a while.
    $t->wait_for(sub {
        eval { cookie('chat') }
    }, 'end of the back-off');
}


# Whose it is

sub put ($token, $login, $password) {
    my $res = $t->request(method => 'DELETE', path => '/login.json',
        port => $api->port, token => $token);
    die 'no logout: ' . $res->raw if $res->status != 200;

    return if !defined $login;

    $res = $t->request(path => '/login.json', port => $api->port,
        token => $token, json => {login => $login, password => $password});
    die 'no login: ' . $res->raw if $res->status != 202;

    return;
}

# The user of a token, as the gateway sees it when it adopts it.
sub adopted ($application, $token) {
    return $client->request(path => "/$application/login",
        json => {token => $token})->json->{session}{user_id};
}

{
    my $token = $api->session(user_id => 5);
    my $bob = cookie('eager', token => $token);
    is sent('eager', with('eager', $bob)), $token, 'whose: of the user';

    put($token, 'alice', 'Canary-Alice-Pw');
    is adopted('eager', $token), 6, 'whose: another user has logged in';

    $api->reset_calls;
    refused('eager', 'whose: the cookie of the user before',
        with('eager', $bob));
    is $api->calls($VALIDATION), 1, 'whose: validated once more before it';
    is outcome('eager', $client->get('/eager/me', with('eager', $bob))),
        $REFUSED, 'whose: the check says the same';
    is $api->calls($VALIDATION), 2, 'whose: and asks before it does';

    my $alice = cookie('eager', token => $token);
    is sent('eager', with('eager', $alice)), $token,
        'whose: the other user has a cookie of its own';

    # The first user's again, which the cache does not know.
    put($token, 'bob', 'Canary-Bob-Pw');
    $api->reset_calls;
    is $client->get('/eager/me', with('eager', $bob))
        ->json->{session}{user_id}, 5,
        'whose: the cache says another user, the API the right one';
    is $api->calls($VALIDATION), 1, 'whose: for which it was asked once';

    put($token, 'alice', 'Canary-Alice-Pw');
    is adopted('eager', $token), 6, 'whose: the cache says another one again';
    put($token, 'bob', 'Canary-Bob-Pw');
    $api->reset_calls;
    is sent('eager', with('eager', $bob)), $token,
        'whose: not for a request either';
    is $api->calls($VALIDATION), 1, 'whose: for which it was asked once, too';
    is $client->get('/eager/a', with('eager', $bob))->header('X-Seen'),
        'HIT|5', 'whose: and that is known from then on';

    # Nobody's any more
    put($token, undef, undef);
    refused('eager', 'whose: the other one has lost it',
        with('eager', $alice));
    refused('eager', 'whose: and an application session is nobody\'s',
        with('eager', $bob));
}

{
    my $token = $api->session(user_id => 5);
    my $value = cookie('named', token => $token);

    # A login through the gateway: what is cached is dropped.
    put($token, 'alice', 'Canary-Alice-Pw');
    is $client->post('/named/client/login', '', token => $token)->status, 200,
        'whose: another user has logged in through the gateway';

    $api->reset_calls;
    refused('named', 'whose: the cookie of the user before',
        with('named', $value)) for 1 .. 3;
    is $api->calls($VALIDATION), 1,
        'whose: what was just asked is not asked again within cache_invalid';
}


# T50: no idle expiry in the seal

{
    $backend->check($api);

    my $value = cookie('chat');
    my $idle = cookie('chat');
    my %outcomes;

    # A request each minute for two hours and a half.
    for (1 .. 150) {
        $api->advance(60);
        $outcomes{$client->get('/chat/a', with('chat', $value))->status}++;
    }

    is_deeply \%outcomes, {200 => 150},
        'T50: busy for two hours and a half: stays in';
    refused('chat', 'T50: the other one was idle for all that time',
        with('chat', $idle));

    $api->advance(119 * 60);
    is $client->get('/chat/a', with('chat', $value))->status, 200,
        'T50: idle for 1 h 59 min: stays in';

    $api->advance(121 * 60);
    refused('chat', 'T50: idle for 2 h 1 min', with('chat', $value));
    refused('chat', 'T50: and from then on', with('chat', $value));

    # Where only the gateway asks, its validation decides and slides.
    $backend->check(undef);
    $value = cookie('brief');

    for (1 .. 3) {
        $api->advance(90 * 60);
        $api->reset_calls;
        $t->wait_for(sub {
            $client->get('/brief/a', with('brief', $value))->status == 200
                && $api->calls($VALIDATION)
        }, 'validation');
    }

    pass 'T50: validated each 90 minutes of four hours and a half: stays in';

    $api->advance(121 * 60);
    $t->wait_for(sub {
        sent('brief', with('brief', $value)) eq $REFUSED
    }, 'end of what is trusted');
    pass 'T50: idle for 2 h 1 min, found by a validation';
}


# cookie_lifetime: however busy

{
    my $token = $api->session(user_id => 5);
    my $value = cookie('short', token => $token);
    my $began = time;
    my %outcomes;

    $t->wait_for(sub {
        my $outcome = sent('short', with('short', $value));
        $outcomes{$outcome}++;
        $outcome ne $token;
    }, 'end of the lifetime');

    my $lived = time - $began;

    is_deeply [sort keys %outcomes], [sort $token, $REFUSED],
        'cookie_lifetime: busy, then refused and cleared';
    cmp_ok $lived, '>', 1, 'cookie_lifetime: not before its end';
    cmp_ok $lived, '<', 6, 'cookie_lifetime: soon after its end';
    is outcome('short', $client->get('/short/me', with('short', $value))),
        $REFUSED, 'cookie_lifetime: for a check, too';
    is sent('short', with('short', cookie('short', token => $token))), $token,
        'cookie_lifetime: of the cookie, not of the session';
}


# An expired response of the upstream

for my $case (
    # path, status, body, Location
    ['/chat/a', 401, $DEAD, undef],
    ['/chat/page/', 302, 'login', undef],
    ['/chat/away/', 302, qr/302 Found/, 'https://login.example.com/'],
    ['/chat/proxied/', 200, qr/login-proxied/, undef],
) {
    my ($path, $status, $body, $location) = @$case;
    my $token = $api->session(user_id => 5);
    my $value = cookie('chat', token => $token);

    is $client->get($path, with('chat', $value))->status, 200,
        "expired: $path: before";

    $api->expire($token);
    $backend->answer($path, status => 401, body => $DEAD, times => 1,
        headers => [['Content-Type', 'application/json'],
            ['Set-Cookie', 'upstream=1'], ['Set-Cookie', 'more=2'],
            ['X-Upstream', 1]]);

    my $res = $client->get($path, with('chat', $value));

    is $res->status, $status, "expired: $path: $status";
    like $res->body, ref $body ? $body : qr/^\Q$body\E$/,
        "expired: $path: the body";
    is $res->header('Location'), $location, "expired: $path: the location";
    is_deeply [$res->headers('Set-Cookie')], [clear('chat')],
        "expired: $path: the cookie is cleared, and nothing else is set";
    is $res->header('X-Upstream'), undef,
        "expired: $path: nor is a header of the upstream handed on";

    my $again = $client->get($path, with('chat', $value));
    is_deeply [$again->status, $again->headers('Set-Cookie')],
        [$status, clear('chat')],
        "expired: $path: refused from then on, before the upstream";
}

# Where nginx goes to the error page before anybody sees the response, the
# next request finds out.
{
    my $token = $api->session(user_id => 5);
    my $value = cookie('chat', token => $token);
    my $path = '/chat/intercepted/';

    is $client->get($path, with('chat', $value))->status, 200,
        'expired: intercepted: before';
    $api->expire($token);
    $backend->answer($path, status => 401, body => $DEAD, times => 1,
        headers => [['Set-Cookie', 'upstream=1']]);
    $client->get($path, with('chat', $value));

    my $res = $client->get($path, with('chat', $value));
    is_deeply [$res->status, $res->headers('Set-Cookie')],
        [302, clear('chat')], 'expired: intercepted: then it is cleared';
}

# Any other 401 is the upstream's own affair.
{
    my $value = cookie('chat');

    $backend->answer('/chat/b', status => 401, body => 'not so',
        headers => [['Set-Cookie', 'upstream=1']]);

    my $res = $client->get('/chat/b', with('chat', $value));
    is_deeply [$res->status, $res->body, $res->headers('Set-Cookie')],
        [401, 'not so', 'upstream=1'],
        'expired: another 401 passes with its own cookie';
    is $client->get('/chat/a', with('chat', $value))->status, 200,
        'expired: and the session goes on';
}


# The API is down: nobody loses a cookie by it

{
    my $value = cookie('brief');
    $api->fail(endpoint => $VALIDATION, status => 503);

    my $res;
    $t->wait_for(sub {
        $res = $client->get('/brief/a', with('brief', $value));
        $res->status != 200;
    }, 'end of what is trusted');

    is_deeply [$res->status, $res->headers('Set-Cookie')], [503],
        'the API is down: 503, and the cookie is not cleared';
    is outcome('brief', $client->get('/brief/me', with('brief', $value)))
        =~ /^503 .*temporarily/, 1, 'the API is down: for a check, too';
    refused('brief', 'the API is down: what does not open is no less',
        with('brief', 'x'));

    $api->heal;
    $t->wait_for(sub {
        $client->get('/brief/a', with('brief', $value))->status == 200
    }, 'end of the back-off');
    pass 'the API is back: and so is its session';
}

$t->done;
