# No kind of request leaves anything behind (I4): of memory, descriptors,
# connections and pages of zones a worker holds as much after so many requests
# as after a tenth of them, while their connection lives on.  100,000 of each
# kind with QUICKBLOX_LONG=1, else 2,000.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Gateway::H2;
use Gateway::Worker;
use MIME::Base64 qw(encode_base64);
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'the heap cannot be looked at'
    if !Gateway::Worker::available();

my $COUNT = $ENV{QUICKBLOX_LONG} ? 100_000 : 2000;

# At once, on one connection.
my $PIPELINED = 20;
my $STREAMS = 8;

my $t = Gateway->new;

chmod 0600, $t->write('key', '0123456789abcdef' x 4);

# nginx itself is the API and the backend, as nothing else is as fast.  A
# session is that of the token in the request, else a new one, whose user is
# nobody at the second port.
my $DEAD = '{"errors":{"base":["Required session does not exist"]}}';
my $session = '{"session":{"_id":"1","id":1,"application_id":92,'
    . '"user_id":$user,"nonce":1,"ts":1,"token":"$token",'
    . '"created_at":"2026-11-25T12:00:00Z",'
    . '"updated_at":"2026-11-25T12:00:00Z"}}';

my $expires = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime time + 7200);
my $kept = 'keepalive_requests 100000000; keepalive_timeout 1h;';

$t->nginx(<<"END", module => 0, level => 'error');
access_log off;
default_type application/json;
$kept

map \$server_port \$user {
    default 5;
    %%PORT_nobody%% 0;
}
map \$http_qb_token \$token {
    default \$http_qb_token;
    "" \$request_id;
}
map \$http_x_replayed\$request_uri \$expired {
    default "";
    ~^/(?:replay|expired|told)/ 1;
}

server {
    listen 127.0.0.1:%%PORT_standin%%;
    listen 127.0.0.1:%%PORT_nobody%%;
    listen 127.0.0.1:%%PORT_tls%% ssl;
    ssl_certificate %%CERT%%;
    ssl_certificate_key %%KEY%%;

    location = /session.json {
        if (\$http_qb_token ~ ^dead) {
            return 401 '$DEAD';
        }
        if (\$request_method = POST) {
            return 201 '$session';
        }
        return 200 '$session';
    }
    location = /login.json {
        return 200 ' ';
    }
    location /users/ {
        return 201 '{"token":"\$request_id","expires_at":"$expires"}';
    }
    location / {
        if (\$expired) {
            return 401 '$DEAD';
        }
        return 200 '{"method":"\$request_method"}';
    }
}
END

sub application ($name, $api, $more = '') {
    return <<"END";
quickblox_application $name {
    api $api;
    api_host localhost;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    api_key Canary-Api-Key-92;
    login gateway;
    password Canary-Gateway-Pw;
    cookie_key %%DIR%%/key;
    cookie qb "Path=/; HttpOnly";
    zone $name 1m;
    cache_valid 1h;
    basic_valid 1h;
    $more
}
END
}

my $group = "keepalive 32; $kept";

my $nginx = $t->nginx(
    application('chat', 'http://standin')
    . application('nobody', 'http://nobody')
    . application('tls', 'https://127.0.0.1:%%PORT_tls%%',
        'ssl_trusted_certificate %%CA%%;')
    . application('down', 'http://127.0.0.1:%%PORT_closed%%')
    . application('renewed', 'http://standin',
        'session_lifetime 3h; refresh_before 150m;')
    . <<"END", level => 'crit', env => Gateway::Worker::env());
access_log off;
client_header_buffer_size 32k;
$kept

upstream standin {
    server 127.0.0.1:%%PORT_standin%%;
    $group
}
upstream nobody {
    server 127.0.0.1:%%PORT_nobody%%;
    $group
}

proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header X-Replayed \$quickblox_replayed;

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;
    quickblox chat;
    quickblox_user \$arg_user;

    location / {
        quickblox_preflight pass;
        proxy_pass http://standin;
    }
    location /user/ {
        quickblox_session user;
        proxy_pass http://standin;
    }
    location /replay/ {
        quickblox_session user_token;
        proxy_pass http://standin;
    }
    location /application/ {
        quickblox nobody;
        quickblox_session application;
        quickblox_application_access write;
        proxy_pass http://standin;
    }
    location /key/ {
        quickblox_session api_key;
        proxy_pass http://standin;
    }
    location /none/ {
        quickblox_session client none;
        proxy_pass http://standin;
    }
    location /basic/ {
        quickblox_session basic;
        proxy_pass http://standin;
    }
    location /user_token/ {
        quickblox_session user_token;
        proxy_pass http://standin;
    }
    location /renewed/ {
        quickblox renewed;
        quickblox_session user_token;
        proxy_pass http://standin;
    }
    location /cookie/ {
        quickblox_session cookie;
        proxy_pass http://standin;
    }
    location /require/ {
        quickblox_require any \$arg_never;
        proxy_pass http://standin;
    }
    location /tls/ {
        quickblox tls;
        proxy_pass http://standin;
    }
    location /down/ {
        quickblox down;
        proxy_pass http://standin;
    }
    location /told/ {
        quickblox_on_expired /listener;
        proxy_pass http://standin;
    }
    location = /listener {
        internal;
        quickblox off;
        proxy_pass http://standin;
    }
    location /page/ {
        error_page 401 =200 /page;
        proxy_pass http://standin;
    }
    location = /page {
        quickblox off;
        return 200 "the login page";
    }
    location = /login {
        quickblox_login;
    }
    location = /logout {
        quickblox_logout;
    }
    location = /me {
        quickblox_check;
    }
}
END

my $worker = Gateway::Worker->new($nginx->workers);


# Kinds of requests

my $JSON = ['Content-Type', 'application/json'];
my $bob = '{"login":"bob","password":"Canary-Bob-Pw"}';
my $number = 0;

my $res = $t->post('/login', $bob, headers => [$JSON]);
is $res->status, 200, 'a cookie';
my @cookie = (headers => [['Cookie',
    ($res->header('Set-Cookie') // '') =~ /^(qb=[^;]+)/]]);

my @token = (token => 'a-session-0123456789');
my @basic = (headers => [['Authorization',
    'Basic ' . encode_base64('bob:Canary-Bob-Pw', '')]]);
my $preflight = [['Origin', 'http://a.test'],
    ['Access-Control-Request-Method', 'PUT']];

# Each session held is made again at most once a second, in the long run: there
# are many of them, where it expires.

# Name, status, the request or what makes it, and how it is made.
my @kinds = (
    ['client, known', 200, {path => '/', @token}],
    ['client, validated', 200,
        sub { {path => '/', token => 'session-' . ++$number} }],
    ['client, over TLS', 200,
        sub { {path => '/tls/', token => 'session-' . ++$number} },
        count => $COUNT / 10],
    ['client, POST', 200, {path => '/', @token, body => 'x' x 2000}],
    ['client, body in a file', 200,
        {path => '/', @token, body => 'x' x 20_000}, count => $COUNT / 10],
    ['client, no session', 401,
        sub { {path => '/', token => 'dead-' . ++$number} }],
    ['client, known as none', 401, {path => '/', token => 'dead-0'}],
    ['no token', 401, {path => '/'}],
    ['require', 403, {path => '/require/', @token}],
    ['API down', 503, {path => '/down/', @token}],
    ['user', 200, {path => '/user/'}],
    ['application', 200, {path => '/application/'}],
    ['api_key', 200, {path => '/key/'}],
    ['none', 200, {path => '/none/'}],
    ['basic', 200, {path => '/basic/', @basic}],
    ['user_token', 200, {path => '/user_token/?user=7'}],
    ['cookie', 200, {path => '/cookie/', @cookie}],
    ['login', 200, {path => '/login', headers => [$JSON], body => $bob}],
    ['login, not JSON', 400,
        {path => '/login', headers => [$JSON], body => '{'}],
    ['logout', 200, {path => '/logout', method => 'POST', @cookie}],
    ['check', 200, {path => '/me', @cookie}],
    ['check, no cookie', 401, {path => '/me'}],
    ['renewal, every other', 200,
        sub { {path => '/renewed/?user=' . int ++$number / 2} }],
    ['replay', 200,
        sub { {path => '/replay/?user=' . ++$number, body => 'x' x 200} }],
    ['expired', 401, {path => '/expired/', @token}],
    ['expired, listener', 401, {path => '/told/', @token}],
    ['preflight', 200, {path => '/', method => 'OPTIONS',
        headers => $preflight}],
    ['error page', 200, {path => '/page/'}],
    ['HTTP/2, known', 200, {path => '/', @token}, h2 => 1],
    ['HTTP/2, validated', 200,
        sub { {path => '/', token => 'session-' . ++$number} }, h2 => 1],
    ['HTTP/2, waited for', 200, sub { {path => '/', token => 'session-'
        . int ++$number / $STREAMS} }, h2 => 1],
    ['HTTP/2, refused', 401, {path => '/'}, h2 => 1],
    ['HTTP/2, replay', 200,
        sub { {path => '/replay/?user=' . ++$number, body => 'x' x 200} },
        h2 => 1],
    ['gRPC, refused', 200, {path => '/', method => 'POST',
        headers => [['Content-Type', 'application/grpc']]}, h2 => 1],
);

# So many requests on a connection; the statuses that came.
sub run ($client, $make, $count) {
    my %seen;

    while ($count > 0) {
        my $now = $count < $PIPELINED ? $count : $PIPELINED;
        $count -= $now;

        $client->send(join '', map {
            $client->format(keepalive => 1, %$_)
        } map { ref $make eq 'CODE' ? $make->() : $make } 1 .. $now);

        for (1 .. $now) {
            my $res = $client->finish(60);
            $seen{$res->complete ? $res->status : $res->error}++;
            return \%seen if !$res->complete;
        }
    }

    return \%seen;
}

sub run_h2 ($client, $make, $count, $streams = $STREAMS) {
    my %seen;

    while ($count > 0) {
        my $now = $count < $streams ? $count : $streams;
        $count -= $now;

        $client->start(%$_)
            for map { ref $make eq 'CODE' ? $make->() : $make } 1 .. $now;
        $seen{$_->{end} ? $_->{status} : 'none'}++
            for $client->finish_all(60);
    }

    return \%seen;
}

# What is under way in the background has come to its end.
sub settled {
    my ($before, $same) = ('', 0);
    my $holds;

    $t->wait_for(sub {
        $holds = $worker->holds;
        my $now = join ' ', map { $holds->{$_} }
            qw(descriptors connections heap);
        $same = $now eq $before ? $same + 1 : 0;
        $before = $now;
        return $same > 2;
    }, 'rest', 60);

    return $holds;
}

my @EQUAL = qw(descriptors connections pages heap);

# More than are kept, so that from now on there are as many at rest.
run_h2(Gateway::H2->new(port => $t->port(1)), {path => '/', @token}, 200, 40);

for my $kind (@kinds) {
    my ($name, $status, $make, %is) = @$kind;
    my $count = $is{count} // $COUNT;
    my $client = $is{h2} ? Gateway::H2->new(port => $t->port(1)) : $t->client;
    my $run = $is{h2} ? \&run_h2 : \&run;
    my $from = time;

    my $seen = $run->($client, $make, $count / 10);
    my ($more, $before, $after);
    $after = settled();

    # One of the connections to the backend that are kept may have ended, and
    # another one be kept by now; what leaks does so again.
    for (1 .. 3) {
        $before = $after;
        $more = $run->($client, $make, $count - $count / 10);
        $after = settled();
        last if !grep { $before->{$_} ne $after->{$_} } @EQUAL;
    }

    $client->close;

    is_deeply [$seen, $more], [{$status => $count / 10},
        {$status => $count - $count / 10}], "$name: $count requests";

    my %growth = map { $_ => $after->{$_} - $before->{$_} }
        qw(heap private);
    diag sprintf '%-22s %7d requests %6.1f s %8d bytes of malloc() %8d '
        . 'private %8.4f bytes/request', $name, $count, time - $from,
        @growth{qw(heap private)}, $growth{heap} / $count;

    is $after->{$_}, $before->{$_}, "$name: $_" for @EQUAL;

    # What is not of malloc(), and what malloc() has kept of a peak of streams;
    # a sanitizer keeps all, for a while.
    cmp_ok $growth{private}, '<', 1 << 20, "$name: memory"
        if $after->{heap};
}

is_deeply [$nginx->workers], [$worker->{pid}], 'the worker lives';

$t->done;
