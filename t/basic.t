# The source "basic": one session a user for all requests and workers, the
# header that is not handed on, what a wrong password gets and costs (T68,
# T70), and how long a right one is trusted (T49).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use utf8;
use lib 't/lib';

use Gateway;
use IO::Socket::INET ();
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(time);

my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';
my $MISSING = '{"errors":["Token is required"]}';
my $UNAUTHORIZED = '{"errors":["Unauthorized"]}';
my $DEAD = '{"errors":{"base":["Required session does not exist"]}}';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

my $t = Gateway->new;
my $api = $t->api;
my $far = $t->api;
my $backend = $t->backend(check => $api);

# One topic each, so that none finds another's sessions or back-off.
my %application = (
    cold => 'timeout 30s; lock_timeout 30s;',
    chat => 'cache_invalid 60s;',
    flood => 'cache_invalid 60s;',
    short => 'cache_invalid 1s;',
    zero => 'cache_invalid 0;',
    proven => 'basic_valid 1s; cache_invalid 60s;',
    renewed => 'session_lifetime 20s; refresh_before 19s;',
    strict => 'basic_valid 1s;',
    stale => 'basic_valid 1s; cache_stale 3s;',
    shapes => '',
    odd => '',
    down => '',
    signed => '',
);

sub configuration (%change) {
    my %all = (%application, %change);

    my $applications = join '', map { <<"END" } sort keys %all;
quickblox_application $_ {
    api @{[($_ =~ /^st/ ? $far : $api)->url]};
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    @{[$all{$_} =~ /auth_secret/ ? '' : 'auth_secret jyqGNhbGxkvBTgd;']}
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    zone $_ @{[$_ eq 'flood' ? '64k' : '128k']};
    $all{$_}
}
END

    my $backend = '%%BACKEND%%';
    my $locations = join '', map { <<"END" } sort keys %all;
    location /$_/ {
        quickblox $_;
        quickblox_session basic;
        proxy_pass $backend;

        location /$_/client/ {
            quickblox_session client basic;
            proxy_pass $backend;
        }
        location /$_/first/ {
            quickblox_session basic client;
            proxy_pass $backend;
        }
        location /$_/user/ {
            quickblox_session basic user;
            proxy_pass $backend;
        }
        location /$_/never/ {
            quickblox_session client user;
            proxy_pass $backend;
        }
        location /$_/none/ {
            quickblox_session basic none;
            proxy_pass $backend;
        }
        location /$_/api_key/ {
            quickblox_session basic api_key;
            proxy_pass $backend;
        }
        location /$_/only/ {
            quickblox_session client;
            proxy_pass $backend;
        }
        location /$_/fastcgi/ {
            fastcgi_pass 127.0.0.1:%%PORT_fastcgi%%;
        }
    }
END

    return <<"END";
$applications
quickblox_application beside {
    api %%API%%;
    application_id 93;
    auth_key authkey93;
    auth_secret Canary-Secret-93;
    zone chat;
}

add_header X-Seen "\$quickblox_status|\$quickblox_user_id" always;
add_header X-Source \$quickblox_session_source always;
add_header X-Pid \$pid always;
underscores_in_headers on;
large_client_header_buffers 4 16k;

server {
    listen 127.0.0.1:%%PORT_0%% reuseport backlog=1024;
    listen 127.0.0.1:%%PORT_2%% http2;

$locations
    location /beside/ {
        quickblox beside;
        quickblox_session basic;
        proxy_pass %%BACKEND%%;
    }
    location = /pid {
        return 204;
    }
    location = /status {
        stub_status;
    }
}
END
}

$t->nginx(configuration(), workers => 4);

# Of bytes, or of text, which is sent in UTF-8.
sub encoded ($login, $password) {
    my $pair = "$login:$password";
    utf8::encode($pair);
    my $value = encode_base64($pair, '');
    $t->secret($value);

    return $value;
}

sub basic ($login, $password) {
    return [['Authorization', 'Basic ' . encoded($login, $password)]];
}

my $BOB = basic('bob', 'Canary-Bob-Pw');
my $ALICE = basic('alice', 'Canary-Alice-Pw');

sub seen ($res) {
    return join ' ', $res->status, $res->header('X-Seen') // '';
}

sub outcome ($res) { return $res->status . ' ' . $res->body }

sub logins { return $api->calls($LOGIN) }

# Names and values at the backend: of what could be a credential.  HTTP/2 has
# no capitals.
sub credentials ($res) {
    return [map { "\u$_->[0]: $_->[1]" } grep { $_->[0] =~
        /token|authorization|behalf/i } @{$res->json->{headers}}];
}

my $asking;

sub wait_requests ($count) {
    return $t->wait_for(sub {
        my $body = $asking ? $asking->get('/status')->body : '';
        my ($writing) = $body =~ /Writing: (\d+)/;

        $asking = $t->client if !defined $writing;
        return defined $writing && $writing == $count + 1;
    }, "$count requests under way", 20);
}


# One session a user

{
    $api->fail(endpoint => $LOGIN, hold => 1);
    wait_requests(0);

    my @clients = map { $t->start(path => '/cold/', headers => $_) }
        map { ($BOB, $ALICE) } 1 .. 100;

    wait_requests(200);
    $api->wait_held(2);
    is logins(), 2, '200 requests of two users: two logins';
    is $backend->hits('/cold/'), 0, 'nothing is let through meanwhile';

    $api->heal;
    $api->release;
    my @responses = map { $_->finish(20) } @clients;

    is_deeply [grep { $_->status != 200 } @responses], [],
        'all of them are served';
    is keys %{{map { $_->header('X-Pid') => 1 } @responses}}, 4,
        'by four workers';

    my @sent = map { $_->json->{token} } @responses;
    my %token = map { $_->{user_id} => $_->{token} } $api->sessions;

    is_deeply [map { $_->header('X-Seen') =~ s/.*\|//r } @responses],
        [(5, 6) x 100], 'each as who it is';
    is_deeply \@sent, [(@token{5, 6}) x 100], 'with the one session of each';
    is logins(), 2, 'and no other login';
    is $api->calls($VALIDATION), 0, 'nor a question';

    is seen($t->get('/cold/', headers => $BOB)), '200 HIT|5', 'then as well';
    is $t->get('/cold/', headers => $BOB)->header('X-Source'), 'basic',
        '$quickblox_session_source';
    is logins(), 2, 'without a login';
}


# Expired: made anew, the request replayed

for my $case (['GET', undef], ['POST', 'Body-Of-Bob ' x 5000],
    ['DELETE', undef])
{
    my ($method, $body) = @$case;
    my $path = "/chat/replay/$method";
    my @request = (method => $method, path => $path, headers => $BOB,
        defined $body ? (body => $body) : ());

    my $first = $t->request(@request)->json;
    my $logins = logins();
    my $hits = $backend->hits($path);
    $api->expire($first->{token});

    my $res = $t->request(@request);
    my $second = $res->json;

    is $res->status, 200, "$method after an expiry";
    isnt $second->{token}, $first->{token}, 'with a new session';
    is logins() - $logins, 1, 'of one login';
    is $backend->hits($path) - $hits, 2, 'the backend sees it twice';
    is_deeply [@$second{qw(body_length body_sha256)}],
        [@$first{qw(body_length body_sha256)}], 'with the same body';
    is $second->{body_length}, length($body // ''), 'all of it';
    is_deeply credentials($res), ["QB-Token: $second->{token}"],
        'and without the login';
}


# The header is not handed on (T69)

my $bob = $t->get('/chat/', headers => $BOB)->json->{token};
my $alice = $api->session(user_id => 6);
my $value = encoded('bob', 'Canary-Bob-Pw');
my $own = "QB-Token: $bob";

$backend->check(undef);
my $gateway = $t->get('/chat/user/')->json->{token};

for my $name (qw(Authorization authorization AUTHORIZATION)) {
    for my $scheme ('Basic ', 'basic ', 'BASIC ', 'bAsIc    ') {
        is_deeply credentials($t->get('/chat/',
            headers => [[$name, $scheme . $value]])), [$own],
            "T69: $name: $scheme is not handed on";
    }
}

my @filler = map { ["X-Filler-$_", 'x'] } 1 .. 45;
my @forged = map { [$_, 7] } qw(On-Behalf-Of on_behalf_of ON-BEHALF_OF);

my @handed = (
    # path, token, headers, what the backend gets
    ['', undef, [@filler, @$BOB], [$own]],
    ['', undef, [@filler[0 .. 18], @$BOB, @filler[19 .. 44]], [$own]],
    ['', undef, [@$BOB, @forged, ['qb_token', '']], [$own]],
    ['', $alice, $BOB, [$own]],
    ['client/', $alice, $BOB, ["QB-Token: $alice"]],
    ['client/', $alice, [@filler, @$BOB], ["QB-Token: $alice"]],
    ['client/', $alice, basic('bob', 'Canary-Wrong-1'),
        ["QB-Token: $alice"]],
    ['client/', $alice, [['Authorization', 'Basic !']],
        ["QB-Token: $alice"]],
    ['client/', $alice, [['Authorization', 'Basic']], ["QB-Token: $alice"]],
    ['client/', $alice, [['Authorization', "Basic\t$value"]],
        ["QB-Token: $alice"]],
    ['client/', $alice, [['Authorization', 'ApiKey Canary-Api-Key-92'],
        @forged], ["QB-Token: $alice"]],
    ['client/', $alice, [['Authorization', 'Bearer of-the-backend']],
        ['Authorization: Bearer of-the-backend', "QB-Token: $alice"]],
    ['client/', $alice, [['Authorization', "Basics $value"]],
        ["Authorization: Basics $value", "QB-Token: $alice"]],
    ['client/', undef, $BOB, [$own]],
    ['first/', $alice, $BOB, [$own]],
    ['first/', $alice, [], ["QB-Token: $alice"]],
    ['user/', undef, $BOB, [$own]],
    ['user/', undef, [['Authorization', 'ApiKey Canary-Api-Key-92']],
        ["QB-Token: $gateway"]],
    ['api_key/', undef, [@$BOB, @forged], [$own]],
    ['api_key/', undef, \@forged,
        ['Authorization: ApiKey Canary-Api-Key-92']],
    ['none/', undef, [@forged, ['Authorization', 'ApiKey 1']], []],
    ['none/', undef, $BOB, [$own]],
    # It is nobody's here but the backend's.
    ['never/', $alice, $BOB, ["Authorization: Basic $value",
        "QB-Token: $alice"]],
);

for my $http (1, 2) {
    for my $case (@handed) {
        my ($path, $token, $headers, $expected) = @$case;
        my @request = ("/chat/$path", token => $token, headers => $headers);
        my $res = $http == 1 ? $t->get(@request)
            : $t->h2(@request, port => $t->port(2));
        my $name = "T69: HTTP/$http: $path " . join ', ',
            map { "$_->[0]: " . ($_->[1] =~ s/\s.*//rs) }
            grep { $_->[0] !~ /Filler/ } @$headers;

        is $res->status, 200, $name;
        is_deeply [sort @{credentials($res)}], [sort @$expected],
            'and what the backend gets';
    }

    # nginx itself takes no two of this name.
    my @two = ("/chat/client/two$http", token => $alice,
        headers => [map { ['Authorization', "Basic $_"] } qw(eDp5 eDp6)]);
    my $res = $http == 1 ? $t->get(@two)
        : $t->h2(@two, port => $t->port(2));

    is $res->status, 400, "T04: HTTP/$http: two of them";
    is $backend->hits("/chat/client/two$http"), 0, 'reach nobody';
}

{
    my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $t->port('fastcgi'), Listen => 5, ReuseAddr => 1)
        or die "fastcgi: $@";

    my $client = $t->start(path => '/chat/fastcgi/',
        headers => [@$BOB, ['X-Marker', 'Marker-Of-Bob'], @forged]);

    my $ready = '';
    vec($ready, fileno $server, 1) = 1;
    ok select($ready, undef, undef, 10), 'fastcgi: it is called';
    my $connection = $server->accept;
    my $bytes = '';

    # The end of the parameters is a record of none.
    $t->wait_for(sub {
        sysread $connection, $bytes, 65536, length $bytes;
        return $bytes =~ /\x01\x04\x00\x01\x00\x00/;
    }, 'parameters');
    close $connection;
    $client->finish;

    like $bytes, qr/HTTP_X_MARKERMarker-Of-Bob/, 'fastcgi: a header';
    like $bytes, qr/HTTP_QB_TOKEN\Q$bob/, 'fastcgi: the token';
    unlike $bytes, qr/AUTHORIZATION|BEHALF|\Q$value/,
        'fastcgi: no login, no other user';
}


$backend->check($api);


# T68: the challenge

{
    my $basic = 'Basic realm="chat", charset="UTF-8"';
    my $quickblox = 'QuickBlox realm="chat"';

    my @from = (
        # who asks, headers, whether a script does
        ['a browser of old', [], 0],
        ['a page that is opened', [['Sec-Fetch-Mode', 'navigate']], 0],
        ['also in capitals', [['sec-fetch-mode', 'navigate'],
            ['Sec-Fetch-Site', 'cross-site']], 0],
        ['fetch', [['Sec-Fetch-Mode', 'cors']], 1],
        ['an image', [['Sec-Fetch-Mode', 'no-cors']], 1],
        ['fetch of its own', [['Sec-Fetch-Mode', 'same-origin']], 1],
        ['a socket', [['Sec-Fetch-Mode', 'websocket']], 1],
        ['with an origin', [['Origin', 'https://a.test']], 1],
        ['with the null origin', [['Origin', 'null'],
            ['Sec-Fetch-Mode', 'navigate']], 1],
        ['jQuery', [['X-Requested-With', 'XMLHttpRequest']], 1],
    );
    my $wrong = basic('bob', 'Canary-Wrong-68');

    for my $case (@from) {
        my ($who, $headers, $script) = @$case;
        my $challenge = $script ? $quickblox : $basic;

        for my $sent (
            ['', [], $MISSING, $challenge],
            ['', $wrong, $UNAUTHORIZED, $challenge],
            ['client/', [['QB-Token', 'no-such-token']], $DEAD, $challenge],
            ['first/', [], $MISSING, $challenge],
            ['user/', $wrong, $UNAUTHORIZED, $challenge],
            ['only/', [], $MISSING, $quickblox],
            ['only/', $BOB, $MISSING, $quickblox],
        ) {
            my ($path, $more, $body, $expected) = @$sent;
            my $res = $t->get("/chat/$path", headers => [@$headers, @$more]);

            is_deeply [$res->status, $res->body,
                $res->headers('WWW-Authenticate')], [401, $body, $expected],
                "T68: $who, /chat/$path, " . join ' ', map { $_->[0] } @$more;
        }
    }
}


# A wrong password

{
    my $wrong = basic('bob', 'Canary-Wrong-Pw');
    my $before = logins();
    my @res = map { $t->get('/chat/wrong', headers => $wrong) } 1 .. 20;

    is_deeply [map { outcome($_) } @res], [("401 $UNAUTHORIZED") x 20],
        'a wrong password: 401';
    is_deeply [map { $res[0]->header($_) } 'Content-Type', 'Cache-Control'],
        ['application/json', 'no-store'], 'as JSON, not to be kept';
    is logins() - $before, 1, 'is asked once, by all workers';
    is $backend->hits('/chat/wrong'), 0, 'and reaches nobody';
    is outcome($t->get('/chat/wrong', headers => basic('nobody',
        'Canary-Wrong-Pw'))), "401 $UNAUTHORIZED", 'so is a wrong login';

    is seen($t->get('/chat/', headers => $BOB)), '200 HIT|5',
        'the right one goes on';
    is outcome($t->get('/chat/first/', headers => $wrong, token => $alice)),
        "401 $UNAUTHORIZED", 'T04: it is never skipped for a good token';
    is outcome($t->get('/chat/user/', headers => $wrong)),
        "401 $UNAUTHORIZED", 'nor for the gateway\'s own session';
    is outcome($t->get('/chat/none/', headers => $wrong)),
        "401 $UNAUTHORIZED", 'nor for none';
    is outcome($t->get('/chat/client/', headers => $BOB,
        token => 'not-a-live-token')), "401 $DEAD",
        'T04: nor is a bad token for a good login';
    is seen($t->get('/chat/', headers => $BOB)), '200 HIT|5',
        'T04: which it does not spoil';

    $before = logins();
    is $t->get('/beside/', headers => $BOB)->status, 401,
        'another application in the same zone knows no bob';
    is logins() - $before, 1, 'and asks';
}

{
    my $wrong = basic('bob', 'Canary-Wrong-Pw');
    my $before = logins();

    is $t->get('/zero/', headers => $wrong)->status, 401, 'cache_invalid 0'
        for 1 .. 3;
    is logins() - $before, 3, 'each is asked';

    $before = logins();
    $t->wait_for(sub {
        is $t->get('/short/', headers => $wrong)->status, 401,
            'cache_invalid 1s' if logins() == $before;
        return $t->get('/short/', headers => $wrong)->status == 401
            && logins() - $before >= 2;
    }, 'another question');
    pass 'cache_invalid 1s: asked again after it';
}


# A flood of wrong passwords

{
    my @people = map { basic("crowd$_", "Canary-Crowd-Pw-$_") } 1 .. 12;
    my @tokens = map { $api->session(user_id => 6) } 1 .. 12;

    $api->user(login => "crowd$_", password => "Canary-Crowd-Pw-$_")
        for 1 .. 12;
    $_ = $t->get('/flood/', headers => $_)->status == 200 ? $_ : undef
        for @people;
    is grep({ defined } @people), 12, 'flood: twelve users';
    is_deeply [map { seen($t->get('/flood/client/', token => $_)) } @tokens],
        [('200 MISS|6') x 12], 'flood: twelve tokens';

    my @clients = map { $t->client } 1 .. 20;
    my %status;

    for my $round (1 .. 100) {
        my $n = 0;
        $_->start(path => '/flood/', keepalive => 1, headers => basic(
            'crowd' . ++$n % 12, "Canary-Flood-$round-$n")) for @clients;
        $status{$_->finish(20)->status}++ for @clients;
    }

    is_deeply \%status, {401 => 2000}, 'flood: 2,000 wrong passwords';

    $api->reset_calls;
    is_deeply [map { $t->get('/flood/', headers => $_)->header('X-Seen')
        =~ /^(\w+)/ } @people], [('HIT') x 12], 'evict no session';
    is_deeply [map { seen($t->get('/flood/client/', token => $_)) } @tokens],
        [('200 HIT|6') x 12], 'and no validation';
    is $api->calls, 0, 'nobody is asked';
}


# What a login and a password can be

{
    my @good = (
        ['colon', 'Canary:pass:word:'],
        ['colons', ':::Canary-Colon'],
        ['form', 'Canary &=%+;#?/\\"\' x%41'],
        ['wörter', 'Canary-pässwörd-日本語-😀'],
        ['long', 'Canary-' . 'p' x 993],
        ['l' x 200, 'Canary-Long-Login'],
        ['with blank', ' Canary blank '],
        ['mail@example.com', 'Canary-Mail-Pw'],
    );

    for my $case (@good) {
        my ($login, $password) = @$case;
        my $id = $api->user(login => $login, password => $password)->{id};
        my $name = "good: " . substr("$login:$password", 0, 40)
            =~ s/([^ -~])/sprintf '\\x{%x}', ord $1/ger;

        is seen($t->get('/chat/', headers => basic($login, $password))),
            "200 MISS|$id", $name;
        is outcome($t->get('/chat/', headers => basic($login,
            substr $password, 0, -1))), "401 $UNAUTHORIZED",
            'and a part of it is not';
    }

    # The key is of both parts, not of both put together.
    $api->user(login => 'ab', password => 'cCanary-Parts');
    is $t->get('/chat/', headers => basic('ab', 'cCanary-Parts'))->status,
        200, 'ab and c';
    is $t->get('/chat/', headers => basic('abc', 'Canary-Parts'))->status,
        401, 'are not abc';
    is $t->get('/chat/', headers => basic('ab:c', 'Canary-Parts'))->status,
        401, 'nor ab, :, c';

    my $before = logins();
    (my $bare = encoded('bobby', 'Canary-Bare-Pw')) =~ s/=+$//;
    my @bad = (
        '', '!', '=', '====', 'a', 'YQ', 'Ym9i', 'Og==', 'Ym9iOg==', 'OnB3',
        'Ym9iOnB3=', 'Ym9i OnB3', 'Ym9iOnB3,', '"Ym9iOnB3"', 'Ym9iOnB3 ',
        'Ym9iOnB3====', 'Ym9iOn-_', "$bare x", substr($value, 0, -1) . '=x',
        (map { encode_base64("bob:Canary${_}Pw", '') } "\0", "\n", "\r\n",
            "\t", "\x1b", "\x7f"),
        encode_base64("bo\0b:Canary-Bob-Pw", ''),
        encode_base64("bob:Canary-Bob-Pw\0", ''),
    );
    my @refused = grep { !/ $/ } @bad;

    for my $bad (@refused) {
        my $name = substr $bad, 0, 40;
        is outcome($t->get('/chat/bad', headers => [
            ['Authorization', length $bad ? "Basic $bad" : 'Basic']])),
            "401 $UNAUTHORIZED", "bad: \"$name\"";
    }

    is logins(), $before, 'bad: the API is not asked';
    is $backend->hits('/chat/bad'), 0, 'bad: nor the backend';

    my $odd = encode_base64("bob:Canary-\xff\xe4", '');
    is outcome($t->get('/chat/', headers => [['Authorization',
        "Basic $odd"]])), "401 $UNAUTHORIZED", 'bytes that are no UTF-8';
}


# T70: refusals, in whatever shape, are one client's affair

{
    $t->secret('Canary-Of-The-Provider');
    my $text = '{"errors":{"base":["Canary-Of-The-Provider"]}}';
    my @shapes = map { {endpoint => $LOGIN, match => "shape$_->[0]-",
        status => $_->[1], body => $_->[2],
        headers => [['X-Provider', 'Canary-Of-The-Provider'],
            ['Retry-After', 30]]} }
        [1, 401, $text], [2, 403, $text], [3, 422, $text], [4, 200, $text],
        [5, 201, '{"errors":["Canary-Of-The-Provider"],"session2":{}}'],
        [6, 401, 'Canary-Of-The-Provider'], [7, 403, ''],
        [8, 401, $DEAD];

    $api->fail(%$_) for @shapes;
    $api->user(login => "good$_", password => "Canary-Good-$_")
        for 1 .. 20;

    for my $round (1 .. 20) {
        my $shape = 1 + $round % @shapes;
        my $res = $t->get('/shapes/', headers => basic("shape$shape-$round",
            'Canary-Wrong-Pw'));

        is outcome($res), "401 $UNAUTHORIZED", "T70: shape $shape";
        unlike $res->raw, qr/Provider/, 'nothing of its text';
        is seen($t->get('/shapes/client/',
            token => $api->session(user_id => 6))), '200 MISS|6',
            'T70: meanwhile others are validated';
        like seen($t->get('/shapes/', headers => basic("good$round",
            "Canary-Good-$round"))), qr/^200 MISS/, 'and log in';
    }

    $api->heal;
}

{
    my @odd = (
        [404, '{"code":null,"message":"Possible subdomains: api"}'],
        [200, '<html>'], [200, '{}'], [201, '{"session":{"token":"x"}}'],
        [302, ''], [418, '{"errors":["teapot"]}'], [400, '{}'],
        [201, '{"session":{"token":"odd-token-1","application_id":93,'
            . '"user_id":5}}'],
        [201, '{"session":{"token":"odd-token-2","application_id":92,'
            . '"user_id":0}}'],
    );

    for my $n (0 .. $#odd) {
        my ($status, $body) = @{$odd[$n]};
        $api->fail(endpoint => $LOGIN, match => "odd$n-", status => $status,
            body => $body);
        $api->user(login => "even$n", password => "Canary-Even-$n");
        my $res = $t->get('/odd/', headers => basic("odd$n-", 'Canary-Odd'));

        is outcome($res), "503 $UNAVAILABLE", "T70: odd: $status $body";
        like $res->header('Retry-After'), qr/^[1-9]\d*$/, 'with Retry-After';
        like seen($t->get('/odd/', headers => basic("even$n",
            "Canary-Even-$n"))), qr/^200 MISS/, 'T70: others log in';
    }

    $api->heal;
}

for my $case ([500, '{}'], [429, '{}'], [422,
    '{"errors":{"base":["Unexpected signature"]}}'])
{
    my ($status, $body) = @$case;
    my $app = {500 => 'down', 429 => 'short', 422 => 'signed'}->{$status};

    $api->fail(endpoint => $LOGIN, match => 'bob', status => $status,
        body => $body, headers => [['Retry-After', 60]]);
    my $res = $t->get("/$app/", headers => $BOB);
    $api->heal;

    is outcome($res), "503 $UNAVAILABLE", "T70: $status: 503";
    $api->reset_calls;
    is $t->get("/$app/", headers => $ALICE)->status, 503,
        "T70: $status backs off";
    is $api->calls, 0, 'nobody is asked';
    is $res->header('Retry-After'), 60, 'T70: as long as it was told'
        if $status == 429;
}
$t->wait_log(qr/"signed".*(auth_secret)/);


# T49: how long a password is trusted

{
    my @carol = ('carol', 'Canary-Carol-Pw');
    my $id = $api->user(login => 'carol', password => $carol[1])->{id};
    my $carol = basic(@carol);
    my $deleted = $api->user(login => 'dave', password => 'Canary-Dave-Pw');
    my $dave = basic('dave', 'Canary-Dave-Pw');

    my %first = map { $_ => $t->get("/$_/", headers => $carol)->json->{token}
        } qw(chat proven);
    is $t->get('/proven/', headers => $dave)->status, 200, 'T49: dave';

    # Used all the time, it is proved all the same, by a login.
    $api->reset_calls;
    my %seen;
    $t->wait_for(sub {
        my $res = $t->get('/proven/', headers => $carol);
        $seen{$res->status}++;
        return $res->json->{token} ne $first{proven};
    }, 'proof');
    is_deeply [keys %seen], [200], 'T49: a right one is served all the time';
    is logins(), 1, 'T49: proved by a login';
    is $api->calls($VALIDATION), 0, 'T49: and not by the token';

    $api->user(id => $id, password => 'Canary-Changed-Pw');
    my $began = time;

    is seen($t->get('/chat/', headers => basic('carol',
        'Canary-Changed-Pw'))), "200 MISS|$id",
        'T49: a changed password works at once';
    is $t->get('/proven/', headers => basic('carol',
        'Canary-Changed-Pw'))->status, 200, 'T49: here, too';

    my $res;
    $t->wait_for(sub {
        $res = $t->get('/proven/', headers => $carol);
        return $res->status != 200;
    }, 'end of the old one', 6);
    is outcome($res), "401 $UNAUTHORIZED", 'T49: the old one is refused';
    cmp_ok time - $began, '<', 4, 'T49: after basic_valid';
    is $api->calls($VALIDATION), 0, 'T49: no token was asked about';

    my $before = logins();
    is_deeply [map { $t->get('/proven/', headers => $carol)->status }
        1 .. 8], [(401) x 8], 'T49: and remembered as a wrong one';
    is logins(), $before, 'T49: which is not asked again';
    is $t->get('/proven/', headers => basic('carol',
        'Canary-Changed-Pw'))->status, 200, 'T49: the new one goes on';

    # The session of a deleted user ends, but what if it did not?
    $api->user(id => $deleted->{id}, delete => 1);
    $t->wait_for(sub {
        $t->get('/proven/', headers => $dave)->status == 401
    }, 'end of dave', 6);
    pass 'T49: a deleted user is refused';

    # Also where the session is dropped before that.
    my $eve = $api->user(login => 'eve', password => 'Canary-Eve-Pw');
    my $headers = basic('eve', 'Canary-Eve-Pw');
    my $token = $t->get('/chat/', headers => $headers)->json->{token};
    $api->user(id => $eve->{id}, password => 'Canary-Eve-Other');
    is $t->get('/chat/', headers => $headers)->status, 200,
        'T49: trusted for basic_valid';
    $api->expire($token);
    is outcome($t->post('/chat/', 'x', headers => $headers)),
        "401 $UNAUTHORIZED", 'T49: but not for a new session';
}

{
    $api->user(login => 'frank', password => 'Canary-Frank-Pw');
    my $frank = basic('frank', 'Canary-Frank-Pw');
    my $token = $t->get('/renewed/', headers => $frank)->json->{token};
    my $old = $token;

    $api->fail(endpoint => $LOGIN, match => 'frank', headers => [
        ['QB-Token-ExpirationDate', undef]]);
    $api->reset_calls;
    $t->wait_for(sub {
        $token = $t->get('/renewed/', headers => $frank)->json->{token};
        return $token ne $old;
    }, 'renewal');
    is $api->calls($VALIDATION), 0, 'T49: renewed by no token';
    cmp_ok logins(), '>=', 1, 'T49: but by a login';
    $api->heal;
}


# T49: while the API cannot be reached

{
    # The backend takes no token of this API for a live one.
    $backend->check(undef);

    is seen($t->get("/$_/", headers => $BOB)), '200 MISS|5', "T49: $_: bob"
        for qw(strict stale);

    my $began = time;
    $far->close_port;

    my %last;
    $t->wait_for(sub {
        $last{strict} = $t->get('/strict/', headers => $BOB);
        return $last{strict}->status != 200;
    }, 'end of basic_valid', 6);
    is outcome($last{strict}), "503 $UNAVAILABLE",
        'T49: without cache_stale basic_valid is the end';

    $t->wait_for(sub {
        seen($t->get('/stale/', headers => $BOB)) eq '200 STALE|5'
    }, 'stale service', 3);
    pass 'T49: with it, it is served on';
    is $t->get('/stale/', headers => $ALICE)->status, 503,
        'T49: nobody else is';
    is $t->get('/stale/', headers => basic('bob', 'Canary-Wrong-Pw'))
        ->status, 503, 'T49: nor bob with another password';

    $t->wait_for(sub {
        seen($t->get('/stale/', headers => $BOB)) =~ /^503/
    }, 'end of cache_stale', 8);
    cmp_ok time - $began, '>=', 2.5, 'T49: not before cache_stale is over';
    cmp_ok time - $began, '<', 7, 'T49: nor long after it';

    $far->open_port;
    $t->wait_for(sub { $t->get("/stale/", headers => $BOB)->status == 200 },
        'the API again', 20);
    pass 'T49: the API is back';
    $backend->check($api);
}


# Reloads

{
    my $before = logins();
    ok $t->reload(configuration()), 'reload';
    is seen($t->get('/chat/', headers => $BOB)), '200 HIT|5',
        'a reload keeps sessions';
    is outcome($t->get('/chat/', headers => basic('bob',
        'Canary-Wrong-Pw'))), "401 $UNAUTHORIZED",
        'and what was refused';
    is logins(), $before, 'nobody logs in again';

    $t->secret('Canary-Changed-Secret');
    ok $t->reload(configuration(chat =>
        'auth_secret Canary-Changed-Secret;')), 'another auth_secret';
    is outcome($t->get('/chat/', headers => $BOB)), "503 $UNAVAILABLE",
        'does not honour the old sessions';
    is logins() - $before, 1, 'but logs in';
}

$t->done;
