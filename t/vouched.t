# The source "user_token": who another access module vouches for gets a
# session made with the API key (T69), shared by all requests and workers,
# renewed while it serves, made anew and the request replayed when it has
# expired; what is no user's id, and what the API may say (T70).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(sha256_hex);
use Gateway;
use MIME::Base64 qw(encode_base64);
use Test::More;

my $t = Gateway->new;
my $api = $t->api(users => [
    ['gateway', 'Canary-Gateway-Pw', 1],
    ['bob', 'Canary-Bob-Pw', 5],
    ['alice', 'Canary-Alice-Pw', 6],
    ['carol', 'Canary-Carol-Pw', 7],
    map { ["user$_", "Canary-User-Pw-$_", $_] } 100 .. 150,
]);
my $backend = $t->backend;
my $checked = $t->backend(check => $api)->url;

my $MAKE = 'POST /users/{id}/tokens';
my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';
my $MISSING = '{"errors":["Token is required"]}';
my $FORBIDDEN = '{"errors":{"base":["Forbidden"]}}';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

my $users = $t->write('users', join '', map { "$_:{PLAIN}Canary-Company-$_\n" }
    qw(bob alice mallory));

my @lists = ('user_token', 'client user_token', 'user_token client',
    'basic user_token', 'user_token none', 'user_token application',
    'client basic user_token user');
my $lists = join '', map { my $path = tr/ /-/r; <<"END" } @lists;
    location /list/$path/ {
        quickblox_session $_;
        proxy_pass %%BACKEND%%;
    }
END

# Each with a zone of its own.
my %apps = (
    chat => 'cache_invalid 1h;',
    short => 'cache_invalid 1s;',
    renewed => '',
    denied => 'api_key Canary-Wrong-Key;',
    alone => '',
    behalf => 'on_behalf_of $vouched_user;',
);
my $blocks = join '', map {
    my $key = $apps{$_} =~ /api_key/ ? '' : 'api_key Canary-Api-Key-92;';
    # The key is enough.
    my $more = $_ eq 'alone' ? ''
        : "auth_key wJHd4cQSxpQGWx5; auth_secret jyqGNhbGxkvBTgd;\n"
            . '    login gateway; password Canary-Gateway-Pw;';
    <<"END" } sort keys %apps;
quickblox_application $_ {
    api %%API%%;
    application_id 92;
    $more
    $key
    zone $_ 256k;
    timeout 30s;
    lock_timeout 30s;
    $apps{$_}
}
END
my $locations = join '', map { <<"END" } sort keys %apps;
    location /$_/ {
        quickblox $_;
        proxy_pass %%BACKEND%%;
    }
END

my $seen = '"$quickblox_status|$quickblox_session_source|$quickblox_user_id"';
my $conf = <<"END";
$blocks

# How a company's names become users of QuickBlox.
map \$remote_user \$user_of {
    bob     5;
    alice   6;
    mallory '';
}

map \$vouched \$vouched_user {
    bob     5;
    alice   6;
}

map \$quickblox_user_id \$is_bob {
    5 1;
}

add_header X-Seen $seen always;
add_header X-Expires \$quickblox_expires always;
large_client_header_buffers 4 32k;
client_max_body_size 4m;

server {
    listen 127.0.0.1:%%PORT_0%% reuseport backlog=1024;
    listen 127.0.0.1:%%PORT_1%% http2;
    quickblox chat;
    quickblox_session user_token;
    quickblox_user \$arg_u;

    location / {
        proxy_pass %%BACKEND%%;
    }
    location /header/ {
        quickblox_user \$http_x_user;
        proxy_pass %%BACKEND%%;
    }
    location /text/ {
        quickblox_user "1\${arg_u}0";
        proxy_pass %%BACKEND%%;
    }
    location /constant/ {
        quickblox_user 5;
        proxy_pass %%BACKEND%%;
    }
    location /replayed/ {
        add_header X-Replayed "\$quickblox_replayed" always;
        proxy_pass $checked;
    }
    location /required/ {
        quickblox_require user \$is_bob;
        proxy_pass %%BACKEND%%;
    }

    # Who is vouched for
    location /auth_basic/ {
        auth_basic company;
        auth_basic_user_file $users;
        quickblox_user \$user_of;
        proxy_pass %%BACKEND%%;
    }
    location /auth_request/ {
        auth_request /auth;
        auth_request_set \$id \$upstream_http_x_user;
        quickblox_user \$id;
        proxy_pass %%BACKEND%%;
    }
    location /mapped/ {
        auth_request /auth;
        auth_request_set \$vouched \$upstream_http_x_user;
        quickblox_user \$vouched_user;
        proxy_pass %%BACKEND%%;
    }
    # The map is asked before anybody has vouched.
    location /early/ {
        auth_request /auth;
        auth_request_set \$vouched \$upstream_http_x_user;
        if (\$vouched_user = 0) {
            return 500;
        }
        set \$before "\$vouched_user";
        proxy_set_header X-Before "(\$before)";
        quickblox_user \$vouched_user;
        proxy_pass %%BACKEND%%;
    }
    location /set/ {
        set \$who \$arg_u;
        quickblox_user \$who;
        proxy_pass %%BACKEND%%;
    }
    location /behalf/early/ {
        quickblox behalf;
        quickblox_session api_key;
        auth_request /auth;
        auth_request_set \$vouched \$upstream_http_x_user;
        if (\$vouched_user = 0) {
            return 500;
        }
        proxy_pass %%BACKEND%%;
    }
    # Another user is vouched for on the way.
    location /first/ {
        auth_request /auth;
        auth_request_set \$vouched \$upstream_http_x_user;
        quickblox_user \$vouched_user;
        error_page 404 = /second/;
        proxy_intercept_errors on;
        proxy_pass %%BACKEND%%;
    }
    location /second/ {
        auth_request /auth-alice;
        auth_request_set \$vouched \$upstream_http_x_user;
        quickblox_user \$vouched_user;
        proxy_pass %%BACKEND%%;
    }
    location = /auth {
        internal;
        quickblox off;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_pass %%BACKEND%%;
    }
    location = /auth-alice {
        internal;
        quickblox off;
        proxy_pass %%BACKEND%%/auth-alice;
    }

$lists
$locations
}
END

my $nginx = $t->nginx($conf, workers => 4);

sub basic ($login, $password) {
    my $value = encode_base64("$login:$password", '');
    $t->secret($value);

    return ['Authorization', "Basic $value"];
}

# The user whose session the backend got, or the refusal.
sub outcome ($res) {
    return $res->status . ' ' . $res->body if $res->status != 200;

    my $token = $res->json->{token} // '';
    my ($session) = grep { $_->{token} eq $token } $api->sessions;

    return $session ? $session->{user_id} : 'nobody';
}

sub credentials ($res) {
    return [map { "$_->[0]: $_->[1]" } grep { $_->[0] =~
        /token|authorization|on.behalf.of/i } @{$res->json->{headers}}];
}


# A cold zone and all at once: one call for each user

{
    my @users = 101 .. 104;

    $api->fail(endpoint => $MAKE, hold => 1);
    my @clients = map { $t->start(path => "/cold?u=$users[$_ % 4]",
        timeout => 25) } 1 .. 400;
    $api->wait_held(4, 20);
    $api->heal;
    $api->release;

    my (%status, %token);
    for my $n (1 .. 400) {
        my $res = $clients[$n - 1]->finish(25);
        $status{$res->status}++;
        $token{$users[$n % 4]}{($res->json // {})->{token} // ''}++;
    }

    is_deeply \%status, {200 => 400}, '400 requests of 4 users pass';
    is_deeply $api->counts, {$MAKE => 4}, 'with one call for each user';
    is_deeply [map { scalar keys %{$token{$_}} } sort keys %token],
        [1, 1, 1, 1], 'each user has one session';

    my %owner = map { $_->{token} => $_->{user_id} } $api->sessions;
    is_deeply {map { my ($token) = keys %{$token{$_}};
        $_ => $owner{$token} } keys %token}, {map { $_ => $_ } @users},
        'which is their own';
}


# The call: the key, and nothing of the client (T69)

{
    $api->reset_calls;

    my $res = $t->post('/?u=5', 'Canary-Body-Of-Client', headers => [
        ['Authorization', 'Bearer Canary-Of-Client'],
        ['authorization', 'ApiKey forged'], ['On-Behalf-Of', 9],
        ['Cookie', 'a=Canary-Of-Client'], ['X-Forwarded-For', '192.0.2.1'],
        ['QB-Token', 'Canary-Of-Client'], ['X-Any', 'Canary-Of-Client'],
    ]);
    is $res->status, 400, 'nginx takes no second Authorization';

    $res = $t->post('/?u=5', 'Canary-Body-Of-Client', headers => [
        ['Authorization', 'ApiKey Canary-Of-Client'], ['On-Behalf-Of', 9],
        ['Cookie', 'a=Canary-Of-Client'], ['X-Forwarded-For', '192.0.2.1'],
        ['QB-Token', 'Canary-Of-Client'], ['X-Any', 'Canary-Of-Client'],
    ]);
    is outcome($res), 5, 'a session of the user';
    is_deeply credentials($res), ['QB-Token: ' . $res->json->{token}],
        'T69: is all that the upstream gets';
    is $res->header('X-Seen'), 'MISS|user_token|5', 'its variables';

    my ($call, @others) = $api->requests;
    is @others, 0, 'one call';
    is "$call->{method} $call->{uri}", 'POST /users/5/tokens', 'its path';
    is_deeply [grep { $_->[0] !~ /^(?:Host|Connection|Accept(?:-Encoding)?)$/i
        } @{$call->{headers}}], [
        ['Authorization', 'ApiKey Canary-Api-Key-92'],
        grep { $_->[0] eq 'Content-Length' } @{$call->{headers}},
    ], 'T69: the key is its one header that counts';
    is $call->header('Content-Length') // 0, 0, 'and it has no body';
    unlike $call->{head}, qr/Canary-Of-Client|192\.0\.2|forged/,
        'T69: nothing of the client is in it';

    is $t->get('/?u=5')->header('X-Seen'), 'HIT|user_token|5', 'held';
    is outcome($t->get('/alone/?u=5')), 5, 'the key alone is enough';
    is outcome($t->h2('/?u=5', port => $t->port(1))), 5, 'HTTP/2';
}

for my $name ('On-Behalf-Of', 'on-behalf-of', 'ON-BEHALF-OF', 'QB-Token',
    'qb-token')
{
    for my $copies (1, 2) {
        my $res = $t->get('/?u=5', headers => [([$name, 9]) x $copies]);
        is_deeply credentials($res), ['QB-Token: ' . $res->json->{token}],
            "T69: $name, $copies";
    }
}

for my $value ('ApiKey x', 'apikey Canary-Api-Key-92', "APIKEY\tx") {
    my $res = $t->get('/?u=5', headers => [['authorization', $value]]);
    is_deeply credentials($res), ['QB-Token: ' . $res->json->{token}],
        'T69: ' . ($value =~ s/\s.*//r);
}


# Whose id is it

{
    my $seven = $t->get('/?u=7')->json->{token};
    $api->reset_calls;

    for my $same ('07', '007', '0' x 10 . '7') {
        is $t->get("/?u=$same")->json->{token}, $seven,
            "\"$same\" and \"7\" are one user";
    }

    # No id, and no question.
    for my $none ('0', '00', '-5', '+5', '5.0', '5e0', '0x5', ' 5', '5 ',
        "5\t", 'bob', '5,6', '5;', '5/../6', '5?', '%35', "\xef\xbc\x95",
        '5x', 'x5', '9' x 16, '9' x 25, '18446744073709551621',
        '4294967301x', '9' x 5000)
    {
        # A header's value has no blanks at its ends.
        my $res = $none =~ /^\s|\s$/ ? $t->get('/?u=' . $none =~ s/\s/%20/r)
            : $t->get('/header/', headers => [['X-User', $none]]);
        my $name = (substr $none, 0, 30)
            =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;

        is_deeply [$res->status, $res->body,
            $res->headers('WWW-Authenticate')], [403, $FORBIDDEN],
            "\"$name\" is no user's id";
    }

    is_deeply $api->counts, {}, 'the API is asked for none of them';

    for my $path ('/', '/?u=', '/header/') {
        my $res = $t->get($path);
        is_deeply [$res->status, $res->body,
            $res->header('WWW-Authenticate')],
            [401, $MISSING, 'QuickBlox realm="chat"'], "nobody: $path";
    }

    is outcome($t->get('/text/?u=0')), 100, 'text and a variable';
    is outcome($t->get('/text/?u=x')), "403 $FORBIDDEN", 'no id of them';
    is outcome($t->get('/constant/?u=6')), 5, 'a constant';
    is outcome($t->get('/set/?u=6')), 6, 'what "set" has set';
    is outcome($t->get('/required/?u=5')), 5, 'quickblox_require';
    is outcome($t->get('/required/?u=6')), "403 $FORBIDDEN",
        'quickblox_require: another user';
}


# Sources

{
    my $token = $api->session(user_id => 9);
    my $login = [basic('alice', 'Canary-Alice-Pw')];
    my @cases = (
        # sources, user, what else is brought; whose session
        ['user_token', '', [], "401 $MISSING"],
        ['user_token', '', [['QB-Token', $token]], "401 $MISSING"],
        ['client-user_token', '5', [['QB-Token', $token]], 9],
        ['client-user_token', '5', [], 5],
        ['client-user_token', 'x', [['QB-Token', $token]], 9],
        ['client-user_token', '', [], "401 $MISSING"],
        ['user_token-client', '5', [['QB-Token', $token]], 5],
        ['user_token-client', '', [['QB-Token', $token]], 9],
        ['user_token-client', 'x', [['QB-Token', $token]],
            "403 $FORBIDDEN"],
        ['user_token-client', '0', [['QB-Token', $token]],
            "403 $FORBIDDEN"],
        ['basic-user_token', '5', $login, 6],
        ['basic-user_token', '5', [], 5],
        ['basic-user_token', '5', [['Authorization', 'Basic x']],
            '401 {"errors":["Unauthorized"]}'],
        ['basic-user_token', '', [], "401 $MISSING"],
        ['user_token-none', '', [], 'nobody'],
        ['user_token-none', '5', [], 5],
        ['user_token-none', 'x', [], "403 $FORBIDDEN"],
        ['user_token-application', '', [], 0],
        ['client-basic-user_token-user', '', [], 1],
        ['client-basic-user_token-user', '7', [], 7],
        ['client-basic-user_token-user', 'x', [], "403 $FORBIDDEN"],
    );

    for my $case (@cases) {
        my ($list, $user, $headers, $gets) = @$case;
        my $res = $t->get("/list/$list/?u=$user", headers => $headers);

        is outcome($res), $gets, "sources $list, user \"$user\", "
            . (@$headers ? $headers->[0][0] : 'nothing else');
        unlike join(' ', @{credentials($res)}), qr/Basic|$token.*,/,
            'and no login is handed on' if $res->status == 200;
    }
}


# What the API says

{
    $api->reset_calls;

    for my $times (1 .. 5) {
        my $res = $t->get('/?u=999');
        is_deeply [$res->status, $res->body,
            $res->headers('WWW-Authenticate')], [403, $FORBIDDEN],
            "a user that there is not, $times";
    }

    is $api->calls($MAKE), 1, 'which is remembered';

    is outcome($t->get('/short/?u=998')), "403 $FORBIDDEN",
        'another, for a second';
    $api->user(id => 998, login => 'late', password => 'Canary-Late-Pw');
    $t->wait_for(sub { $t->get('/short/?u=998')->status == 200 },
        'end of cache_invalid', 5);
    pass 'which ends with cache_invalid';
}

my @answers = (
    # how the API answers; what comes of it
    ['404', "403 $FORBIDDEN", status => 404,
        body => '{"errors":{"base":["User not found"]}}'],
    ['404 of a wrong Host', "503 $UNAVAILABLE", status => 404,
        body => '{"code":null,"message":"Possible subdomains: api"}'],
    ['404 of HTML', "503 $UNAVAILABLE", status => 404,
        body => '<h1>Not Found</h1>'],
    ['404 with a token', "403 $FORBIDDEN", status => 404,
        body => '{"token":"token-of-nobody"}'],
    ['400', "503 $UNAVAILABLE", status => 400, body => '{"errors":["no"]}'],
    ['403', "503 $UNAVAILABLE", status => 403, body => '{"errors":["no"]}'],
    ['302', "503 $UNAVAILABLE", status => 302, body => '',
        headers => [['Location', 'http://127.0.0.1/']]],
    ['201 of nothing', "503 $UNAVAILABLE", status => 201, body => '{}'],
    ['201 with errors', "503 $UNAVAILABLE", status => 201,
        body => '{"errors":["no"]}'],
    ['201 of HTML', "503 $UNAVAILABLE", status => 201, body => '<p>'],
    ['a token that cannot be one', "503 $UNAVAILABLE", status => 201,
        body => '{"token":"a b\r\nX-Forged: 1"}'],
    ['a token that is a number', "503 $UNAVAILABLE", status => 201,
        body => '{"token":1234567890}'],
    ['two tokens', "503 $UNAVAILABLE", status => 201,
        body => '{"token":"token-one","token":"token-two"}'],
);
my $user = 110;

for my $case (@answers) {
    my ($name, $gets, %how) = @$case;
    my $n = ++$user;

    $api->fail(endpoint => $MAKE, times => 1, %how);
    is outcome($t->get("/?u=$n")), $gets, "T70: $name";
    $api->heal;
}

# When it ends, as far as it is told.
my @dates = (
    # expires_at, seconds that are left
    ['"' . iso(3000) . 'Z"', 3000],
    ['"' . iso(3000) . '+00:00"', 3000],
    ['"' . iso(-60) . 'Z"', 7200],
    ['"' . iso(7200 + 3700) . 'Z"', 7200],
    ['"soon"', 7200],
    ['null', 7200],
    ['1234567890', 7200],
);

sub iso ($left) {
    my @t = gmtime time + $left;

    return sprintf '%d-%02d-%02dT%02d:%02d:%02d', $t[5] + 1900, $t[4] + 1,
        @t[3, 2, 1, 0];
}

for my $case (@dates) {
    my ($date, $left) = @$case;
    my $n = ++$user;
    my $token = $api->session(user_id => $n);

    $api->fail(endpoint => $MAKE, times => 1, status => 201,
        body => qq({"token":"$token","expires_at":$date}));
    my $res = $t->get("/?u=$n");
    is outcome($res), $n, 'expires_at ' . ($date =~ s/\d.*T.*\d/.../r);
    cmp_ok abs(($res->header('X-Expires') // 0) - time - $left), '<', 40,
        "ends in $left s" or diag $date;
}


# Renewed by its token, and made anew when that is gone

{
    $api->set(lifetime => 60, expiration => 'after');
    my $token = $t->get('/renewed/?u=5')->json->{token};
    $api->set(lifetime => 7200);
    $api->reset_calls;

    $t->wait_for(sub {
        my $res = $t->get('/renewed/?u=5');
        die 'not served' if $res->status != 200;
        return $api->calls;
    }, 'renewal', 5);

    my ($call) = $api->requests;
    is "$call->{method} $call->{path}", 'GET /session.json',
        'renewed: by a GET';
    is $call->header('QB-Token'), $token, 'renewed: of its token';
    is_deeply [$call->header_all('Authorization')], [],
        'renewed: without the key';

    $t->wait_for(sub {
        $t->get('/renewed/?u=5')->header('X-Expires') > time + 7000
    }, 'end of the renewal', 5);
    is $t->get('/renewed/?u=5')->json->{token}, $token,
        'renewed: it is the same';

    # Gone meanwhile: found out by the renewal, and made anew.
    $api->set(lifetime => 60);
    $token = $t->get('/renewed/?u=6')->json->{token};
    $api->set(lifetime => 7200);
    $api->expire($token);
    $api->reset_calls;
    $t->wait_for(sub {
        my $res = $t->get('/renewed/?u=6');
        die 'not served' if $res->status != 200;
        return $res->json->{token} ne $token;
    }, 'new session', 5);
    is_deeply $api->counts, {$VALIDATION => 1, $MAKE => 1},
        'renewed: one that is gone is made anew';
}

{
    my $body = join '', map { chr int rand 256 } 1 .. 100_000;
    my $first = $t->get('/replayed/?u=130')->json->{token};

    for my $case ([GET => ''], [POST => 'little'], [POST => $body]) {
        my ($method, $sent) = @$case;
        my $name = "$method of " . length($sent) . ' bytes';

        $api->expire($first);
        $api->reset_calls;

        my $res = $t->request(method => $method, path => '/replayed/?u=130',
            body => $sent);

        is_deeply [$res->status, $res->header('X-Replayed'),
            $res->json->{method}, $res->json->{body_sha256}],
            [200, 1, $method, sha256_hex($sent)],
            "expired: $name is replayed";
        isnt $res->json->{token}, $first, 'under a new session';
        is_deeply $api->counts, {$MAKE => 1}, 'made with the key';

        $first = $res->json->{token};
    }

    $api->expire($first);
    $api->reset_calls;
    my @under_way = map { $t->start(path => '/replayed/?u=130',
        body => "body $_", timeout => 25) } 1 .. 100;
    my @res = map { $_->finish(25) } @under_way;

    is_deeply [grep { $res[$_]->status != 200
        || $res[$_]->json->{body_sha256} ne sha256_hex('body ' . ($_ + 1)) }
        0 .. $#res], [], 'expired: 100 at once are replayed';
    is $api->calls($MAKE), 1, 'with one call';

    # The user has been deleted meanwhile.
    $api->user(id => 130, delete => 1);
    my $res = $t->post('/replayed/?u=130', 'x');
    is_deeply [$res->status, $res->body], [403, $FORBIDDEN],
        'expired: one who is gone is known by it';
}


# Other access modules vouch

sub auth ($name) {
    $backend->answer('/auth', status => 200, headers => [
        defined $name ? ['X-User', $name] : ()]);

    return;
}

{
    is outcome($t->get('/auth_basic/', headers => [
        basic("$_->[0]", "Canary-Company-$_->[0]")])), $_->[1],
        "auth_basic vouches for $_->[0]"
        for ['bob', 5], ['alice', 6], ['mallory', "401 $MISSING"];
    isnt $t->get('/auth_basic/', headers => [basic(@$_)])->status, 200,
        "auth_basic refuses $_->[0], $_->[1]"
        for ['bob', 'Canary-Wrong-Pw'], ['bob', 'Canary-Bob-Pw'],
            ['carol', 'Canary-Company-bob'];
    is $t->get('/auth_basic/')->status, 401, 'auth_basic refuses nobody';

    for my $path ('auth_request', 'mapped', 'early', 'first') {
        my %named = $path eq 'auth_request' ? (5 => 5, 6 => 6, x =>
            "403 $FORBIDDEN") : (bob => 5, alice => 6, x => "401 $MISSING");

        for my $name (sort keys %named) {
            auth($name);
            is outcome($t->get("/$path/")), $named{$name},
                "auth_request vouches for \"$name\": $path";
        }

        auth(undef);
        is outcome($t->get("/$path/")), "401 $MISSING",
            "auth_request vouches for nobody: $path";

        $backend->answer('/auth', status => 403);
        my $res = $t->get("/$path/", headers => [['X-User', 5]]);
        is $res->status, 403, "auth_request refuses: $path";
        isnt $res->body, $FORBIDDEN, 'by itself';
    }

    auth('bob');
    is_deeply [map { $_->[1] } grep { $_->[0] eq 'X-Before' }
        @{$t->get('/early/')->json->{headers}}], ['()'],
        'the map was asked before, when nobody had vouched';

    for my $case (['bob', 5], ['alice', 6], ['x', undef]) {
        my ($name, $id) = @$case;

        auth($name);
        my $res = $t->get('/behalf/early/', headers => [['On-Behalf-Of', 9]]);
        is_deeply defined $id ? credentials($res) : [$res->status],
            defined $id ? ['Authorization: ApiKey Canary-Api-Key-92',
                "On-Behalf-Of: $id"] : [403],
            "T69: on_behalf_of whom auth_request vouches for: $name";
    }

    # One location vouches for bob, the next for alice.
    auth('bob');
    $backend->answer('/first/', status => 404);
    $backend->answer('/auth-alice', status => 200,
        headers => [['X-User', 'alice']]);
    my $res = $t->get('/first/');
    is outcome($res), 6, 'a redirect to where alice is vouched for';
    is $res->header('X-Seen'), 'HIT|user_token|6', 'its variables';
    $backend->heal;
}


# The key is refused, which is the gateway's affair: last, as it backs off

{
    $api->reset_calls;

    my $res = $t->get('/denied/?u=5');
    is_deeply [$res->status, $res->body, $res->headers('WWW-Authenticate')],
        [503, $UNAVAILABLE], 'the key is refused';
    like $res->header('Retry-After'), qr/^[1-9]\d*$/, 'with a time';
    is $t->get('/denied/?u=6')->status, 503, 'for all users';
    is $api->calls, 1, 'with one call, as it backs off';

    my @lines = grep { /application "denied"/ } split /\n/,
        $nginx->error_log;
    like "@lines", qr/\[error\].*"denied".*api_key.*user_token/,
        'the log names the key';
    is @lines, 1, 'once';

    is $t->get('/?u=148')->status, 200, 'another application goes on';
}

$t->done;
