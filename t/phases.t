# The module among nginx's phases: what comes before it (limit_req, T52;
# return and rewrite, T64; internal, the limit of a body), beside it
# (auth_basic, auth_request) and after it, and what locations inherit.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(encode_base64);
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;
my $users = $t->write('users', "alice:{PLAIN}Canary-Companion\n");
$t->write('files/file.txt', 'Protected-Marker');

# The same location with ours, with "deny all", and with nothing.
my %protection = (
    quickblox => 'quickblox chat;',
    oracle => 'deny all;',
);

my @early = (
    'return 200 early;',
    'return 204;',
    'return 301 /elsewhere;',
    'return 403;',
    'rewrite ^ /open? permanent;',
    'rewrite ^ /open redirect;',
    'rewrite ^ http://a.test/;',
    'rewrite ^ /open last;',
    'rewrite ^ /open;',
    'if ($arg_x) { return 200 early; }',
    'if ($request_method = GET) { return 200 early; }',
    'if ($http_x_none) { return 200 early; }',
    'rewrite ^ /open break;',
    'set $x early;',
    'set $limit_rate 100k; break;',
    'alias %%DIR%%/files/file.txt;',
);

my $early = '';

for my $how (sort keys %protection) {
    for (0 .. $#early) {
        my $content = $early[$_] =~ /alias/ ? '' : 'proxy_pass %%BACKEND%%;';
        $early .= <<"END_OF_LOCATION";
    location = /early/$_/$how {
        $protection{$how}
        $early[$_]
        $content
    }
END_OF_LOCATION
    }
}

$t->nginx(<<"END_OF_CONFIGURATION");
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
}

quickblox_application other {
    api %%API%%;
    application_id 93;
    auth_key authkey93;
    auth_secret Canary-Secret-93;
    zone quickblox;
}

limit_req_zone \$quickblox_user_id zone=user:1m rate=1r/m;
limit_req_zone \$quickblox_token zone=session:1m rate=1r/m;
limit_req_zone \$http_qb_token zone=token:1m rate=1r/m;
limit_req_zone \$http_qb_token zone=stock:1m rate=1r/m;
limit_conn_zone \$quickblox_user_id zone=connections:1m;
limit_req_status 429;

map \$quickblox_user_id \$bob {
    5 1;
}
map \$quickblox_user_id \$group {
    1 staff;
    default guests;
}
map \$group \$staff {
    staff 1;
    default 0;
}

log_format seen '\$uri \$quickblox_status \$quickblox_user_id';
access_log %%DIR%%/seen.log seen;

# what "http" has, servers inherit
quickblox_session client;

server {
    listen 127.0.0.1:%%PORT_0%%;
    root %%DIR%%/files;
    proxy_set_header X-User \$quickblox_user_id;

    location /limit/user {
        quickblox chat;
        limit_req zone=user;
        limit_conn connections 1;
        proxy_pass %%BACKEND%%;
    }
    location /limit/session {
        quickblox chat;
        limit_req zone=session;
        proxy_pass %%BACKEND%%;
    }
    location /limit/token {
        quickblox chat;
        limit_req zone=token;
        proxy_pass %%BACKEND%%;
    }
    location /limit/stock {
        limit_req zone=stock;
        proxy_pass %%BACKEND%%;
    }

$early
    location /open {
        proxy_pass %%BACKEND%%;
    }
    location /elsewhere {
        proxy_pass %%BACKEND%%;
    }

    location /set {
        quickblox chat;
        set \$early "\$quickblox_user_id\$quickblox_token\$quickblox_status";
        add_header X-Early "<\$early>";
        add_header X-Late "<\$quickblox_user_id>";
        proxy_pass %%BACKEND%%;
    }
    location /small {
        quickblox chat;
        client_max_body_size 10;
        proxy_pass %%BACKEND%%;
    }
    location /internal {
        internal;
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
    location /files/ {
        quickblox chat;
        alias %%DIR%%/files/;
        autoindex on;
    }
    location /index/ {
        quickblox chat;
        alias %%DIR%%/files/;
        index file.txt;
    }
    location /gif {
        quickblox chat;
        empty_gif;
    }
    location /no-content {
        quickblox chat;
        stub_status;
    }

    location /both {
        quickblox chat;
        auth_basic both;
        auth_basic_user_file $users;
        proxy_pass %%BACKEND%%;
    }
    location /asked {
        quickblox chat;
        auth_request /role;
        auth_request_set \$role \$upstream_http_x_role;
        quickblox_require user \$role;
        proxy_pass %%BACKEND%%;
    }
    location /role {
        internal;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_pass %%BACKEND%%;
    }

    location /require/set {
        quickblox chat;
        set \$agreed \$arg_agreed;
        quickblox_require user \$agreed;
        proxy_pass %%BACKEND%%;
    }
    location /require/argument {
        quickblox chat;
        quickblox_require user \$arg_agreed;
        proxy_pass %%BACKEND%%;
    }
    # these two have been asked for before the session was known
    location /require/map {
        quickblox chat;
        set \$asked "\$bob";
        quickblox_require user \$bob;
        proxy_pass %%BACKEND%%;
    }
    location /require/map-of-map {
        quickblox chat;
        quickblox_session client user;
        set \$asked "\$staff";
        quickblox_require user \$staff;
        proxy_pass %%BACKEND%%;
    }
    location /require/as-gateway {
        quickblox chat;
        quickblox_session user;
        quickblox_require user \$staff;
        proxy_pass %%BACKEND%%;
    }

    location /level/ {
        quickblox chat;
        quickblox_session user;
        proxy_pass %%BACKEND%%;

        location /level/client/ {
            quickblox_session client;
            proxy_pass %%BACKEND%%;

            location /level/client/any {
                quickblox_require any;
                proxy_pass %%BACKEND%%;
            }
        }
        location /level/other {
            quickblox other;
            quickblox_session application;
            proxy_pass %%BACKEND%%;
        }
        location /level/off/ {
            quickblox off;
            proxy_pass %%BACKEND%%;

            location /level/off/on {
                quickblox chat;
                proxy_pass %%BACKEND%%;
            }
        }
        location ~ ^/level/regex/(.*)\$ {
            proxy_pass %%BACKEND%%;
        }
    }
    location /if {
        quickblox chat;
        proxy_pass %%BACKEND%%;

        if (\$arg_if) {
            set \$x 1;
        }
        if (\$arg_proxy) {
            proxy_pass %%BACKEND%%;
        }
    }
}

server {
    listen 127.0.0.1:%%PORT_1%%;
    quickblox chat;
    root %%DIR%%/files;

    location /open {
        quickblox off;
        proxy_pass %%BACKEND%%;
    }
    location /inherited {
        proxy_pass %%BACKEND%%;
    }
}

server {
    listen 127.0.0.1:%%PORT_2%%;
    quickblox chat;
    return 200 server;
}
END_OF_CONFIGURATION

my $bob = $api->session(user_id => 5);
my $alice = $api->session(user_id => 6);
my $guest = $api->session;
my $required = '{"errors":["Token is required"]}';
my $forbidden = '{"errors":{"base":["Forbidden"]}}';

sub held () {
    my ($session) = grep { $_->{application_id} == 92
        && $_->{user_id} == 1 } $api->sessions;

    return $session->{token} // '';
}


# T52: limits are counted before the session is known

sub refused ($path) {
    my @clients = map { my $n = $_; map { $t->start(path => "$path/$n",
        token => $_) } $bob, $alice } 1 .. 10;
    my %count;
    $count{$_->finish->status}++ for @clients;

    return join ', ', map { "$count{$_} x $_" } sort keys %count;
}

is refused('/limit/user'), '20 x 200',
    'T52: a limit keyed by the user never fires';
is $backend->last_request->header('X-User') =~ s/6/5/r, 5,
    'T52: though later the user is known';
is refused('/limit/session'), '20 x 200',
    'T52: nor does one keyed by $quickblox_token';
is refused('/limit/stock'), '2 x 200, 18 x 429',
    'T52: one keyed by $http_qb_token in nginx alone';
is refused('/limit/token'), '2 x 200, 18 x 429',
    'T52: and the same beside us';

# A limit saves the call that a bad token would cost.
{
    my $bad = 'f00d' x 10;

    $api->reset_calls;
    is $t->get('/limit/token', token => $bad)->status, 401,
        'T52: a bad token';
    is $t->get('/limit/token', token => $bad)->status, 429,
        'T52: once more';
    is $api->calls, 1, 'T52: one call for the two';
}


# T64: what answers before the access phase, does so

for (0 .. $#early) {
    my $what = "T64: $early[$_]";
    my %seen;

    for my $how (qw(oracle quickblox)) {
        $backend->reset;
        my $res = $t->get("/early/$_/$how?x=1");
        my $body = $res->json ? 'JSON' : $res->body;

        $seen{$how} = join '|', $res->status,
            $res->header('Location') // '',
            $res->status =~ /^40[13]$/ ? 'refused' : $body,
            $backend->hits;
        $seen{$how} =~ s/:\d+|$how//g;
    }

    $seen{oracle} =~ s/^403\|\|refused/401||refused/
        if $early[$_] !~ /return 403/;
    is $seen{quickblox}, $seen{oracle}, "$what as with \"deny all\"";
}

is $t->get("/early/$_/quickblox?x=1")->status, 401, "T64: $early[$_]"
    for 11 .. $#early;
is $t->get('/early/9/quickblox')->body, $required,
    'T64: an "if" that does not return';
is $t->get('/', port => $t->port(2))->body, 'server',
    'T64: return in a server';

{
    my $res = $t->get('/set', token => $bob);

    is $res->header('X-Early'), '<>', 'T64: "set" comes before the session';
    is $res->header('X-Late'), '<5>', 'T64: header fields after it';
}


# What comes before us, too

$api->reset_calls;
$backend->reset;

is $t->post('/small', 'x' x 11, token => $api->session(user_id => 5))
    ->status, 413, 'F32: a body that is too long';
is $t->get('/internal', token => $bob)->status, 404,
    'an internal location';
is $api->calls + $backend->hits, 0, 'F32: neither API nor backend is asked';
is $t->post('/small', 'x' x 10)->status, 401,
    'F32: a body that is not too long';


# Contents of nginx's own

for my $case (
    ['/files/file.txt', qr/^Protected-Marker$/],
    ['/files/', qr/file\.txt/],
    ['/index/', qr/^Protected-Marker$/],
    ['/gif', qr/^GIF89a/],
    ['/no-content', qr/^Active connections/],
    ['/file.txt', qr/^Protected-Marker$/, 1],
) {
    my ($path, $content, $port) = @$case;
    my %req = (port => $t->port($port // 0));

    is $t->get($path, %req)->body, $required, "$path: without a token";
    like $t->get($path, %req, token => $bob)->body, $content,
        "$path: with one";
}

is $t->get('/nowhere', port => $t->port(1))->status, 401,
    'nobody learns which files there are';
is $t->get('/nowhere', port => $t->port(1), token => $bob)->status, 404,
    'but with a token';


# Beside us

my @alice = (['Authorization',
    'Basic ' . encode_base64('alice:Canary-Companion', '')]);
my @bad = (['Authorization', 'Basic ' . encode_base64('alice:no', '')]);

for my $case (
    [[], undef, 401, 'Basic realm="both"'],
    [[], $bob, 401, 'Basic realm="both"'],
    [[@bad], $bob, 401, 'Basic realm="both"'],
    [[@alice], undef, 401, 'QuickBlox realm="chat"'],
    [[@alice], 'f00d' x 10, 401, 'QuickBlox realm="chat"'],
    [[@alice], $guest, 403],
    [[@alice], $bob, 200],
) {
    my ($headers, $token, $status, @challenges) = @$case;
    my $name = 'auth_basic, ' . (@$headers ? $headers->[0][1] : 'none')
        . ', ' . ($token // 'no token');

    $backend->reset;
    my $res = $t->get('/both', headers => $headers, token => $token);

    is $res->status, $status, "$name: status";
    is_deeply [$res->headers('WWW-Authenticate')], \@challenges,
        "$name: challenge";
    is $backend->hits, $status == 200 ? 1 : 0, "T12: $name: hits";
}

is_deeply [$backend->last_request('/both')->header_all('Authorization'),
    $backend->last_request('/both')->header_all('QB-Token')],
    [$alice[0][1], $bob], 'both credentials reach the upstream';

for my $case (['admin', 200], ['0', 403], ['', 403]) {
    my ($role, $status) = @$case;

    $backend->heal;
    $backend->answer('/role', headers => [['X-Role', $role]]);
    is $t->get('/asked', token => $bob)->status, $status,
        "auth_request_set of \"$role\" in quickblox_require";
}

$backend->heal;

for my $case (
    ['/require/set?agreed=1', $bob, 200],
    ['/require/set?agreed=0', $bob, 403],
    ['/require/set', $bob, 403],
    ['/require/argument?agreed=1', $bob, 200],
    ['/require/argument?agreed=0', $bob, 403],
    ['/require/map', $bob, 200],
    ['/require/map', $alice, 403],
    ['/require/map-of-map', undef, 200],
    ['/require/map-of-map', $bob, 403],
) {
    my ($path, $token, $status) = @$case;
    my $res = $t->get($path, token => $token);
    my $who = !$token ? 'the gateway' : $token eq $bob ? 'bob' : 'alice';

    is $res->status, $status, "$path as $who";
    is $res->body, $forbidden, "$path as $who: body" if $status == 403;
}

# What was true of the gateway's user is not of the client's.
$backend->answer('/require/as-gateway',
    headers => [['X-Accel-Redirect', '/require/map-of-map']]);
$backend->reset;
is $t->get('/require/as-gateway', token => $bob)->status, 403,
    'quickblox_require by map of map after another session';
is $backend->hits('/require/map-of-map'), 0, 'T12: hits';


# What locations inherit: without a token, with bob's, and what is injected

$backend->heal;

for my $case (
    # path, status without a token, header then; status with bob's, header
    ['/level/a', 200, 'gateway', 200, 'gateway'],
    ['/level/client/a', 401, undef, 200, 'bob'],
    ['/level/client/any', 401, undef, 200, 'bob'],
    ['/level/other', 200, 'other', 200, 'other'],
    ['/level/off/a', 200, undef, 200, 'bob'],
    ['/level/off/on', 200, 'gateway', 200, 'gateway'],
    ['/level/regex/a', 200, 'gateway', 200, 'gateway'],
    ['/if', 401, undef, 200, 'bob'],
    ['/if?if=1', 401, undef, 200, 'bob'],
    ['/if?proxy=1', 401, undef, 200, 'bob'],
    ['/inherited', 401, undef, 200, 'bob', 1],
    ['/open', 200, undef, 200, 'bob', 1],
) {
    my ($path, $without, $injected, $with, $handed, $port) = @$case;
    my %req = (path => $path, port => $t->port($port // 0));

    for ([$without, $injected], [$with, $handed, token => $bob]) {
        my ($status, $whose, @token) = @$_;
        my $name = "$path " . (@token ? 'with' : 'without') . ' a token';

        $backend->reset;
        is $t->request(%req, @token)->status, $status, "$name: status";
        is $backend->hits, $status == 200 ? 1 : 0, "$name: hits";

        my ($other) = map { $_->{token} }
            grep { $_->{application_id} == 93 } $api->sessions;
        my %of = (bob => $bob, gateway => held(), other => $other);

        is_deeply [map { $_->header_all('QB-Token') } $backend->requests],
            [$whose ? $of{$whose} : ()], "$name: header";
    }
}

is $t->get('/level/client/any', token => $guest)->status, 200,
    'the innermost location has rights of its own';
is $t->get('/level/client/a', token => $guest)->status, 403,
    'which the one around it has not';

$t->stop;

my $seen = $t->read('seen.log');

ok $seen =~ /^$_$/m, "logged: $_"
    for '/limit/user/1 MISS [56]', '/limit/token - -', '/gif REJECTED -',
        '/gif HIT 5', '/level/off/a - -', '/open - -', '/both REJECTED -',
        '/small - -';

$t->done;
