# Clients that go away, by FIN, RST or RST_STREAM, over HTTP/1 and HTTP/2, in
# every state that a request can be in (F23): what they had is given back to
# the last byte (I4), calls under way bring their result home, and the workers
# serve on at once.  10,000 clients with QUICKBLOX_LONG=1, else 600.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Gateway::H2;
use Gateway::Worker;
use Test::More;

plan skip_all => 'the heap cannot be looked at'
    if !Gateway::Worker::available();

# The first round warms up.
my $ROUNDS = $ENV{QUICKBLOX_LONG} ? 18 : 2;

# Clients of each kind at once.
my $EACH = 6;
my $ALL = 5 * $EACH;

my $CREATE = 'POST /session.json';
my $CHECK = 'GET /session.json';
my $USER_TOKEN = 'POST /users/{id}/tokens';
my $LOGOUT = 'DELETE /login.json';

my $DEAD = '{"errors":{"base":["Required session does not exist"]}}';
my $JSON = ['Content-Type', 'application/json'];
my $body = 'x' x 20_000;
my $bob = '{"login":"bob","password":"Canary-Bob-Pw"}';

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

chmod 0600, $t->write('key', '0123456789abcdef' x 4);

sub application ($name, %more) {
    my %all = (
        api => '%%API%%',
        application_id => 92,
        auth_key => 'wJHd4cQSxpQGWx5',
        auth_secret => 'jyqGNhbGxkvBTgd',
        api_key => 'Canary-Api-Key-92',
        login => 'gateway',
        password => 'Canary-Gateway-Pw',
        cookie_key => '%%DIR%%/key',
        cookie => 'qb "Path=/; HttpOnly"',
        zone => "$name 32m",    # nobody is pushed out
        timeout => '30s',
        lock_timeout => '30s',
        cache_valid => '1h',
        %more,
    );

    return "quickblox_application $name {\n"
        . join('', map { "    $_ $all{$_};\n" } sort keys %all) . "}\n";
}

my $blackhole = $t->blackhole;

# A quarter of a worker's connections may be calls, as many as clients need.
my $CONNECTIONS = 128;

my $nginx = $t->nginx(
    application('chat')
    . application('renewed', session_lifetime => '3h',
        refresh_before => '150m')
    . application('far', api => "http://127.0.0.1:$blackhole",
        connect_timeout => '200ms')
    . <<'END', workers => 2, events => "worker_connections $CONNECTIONS;",
add_header X-Status $quickblox_status always;

server {
    listen 127.0.0.1:%%PORT_0%% reuseport;
    listen 127.0.0.1:%%PORT_1%% http2 reuseport;
    quickblox chat;
    quickblox_user $arg_user;

    location / {
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /forget/ {
        quickblox_session cookie user;
        quickblox_forget on;
        proxy_pass %%BACKEND%%;
    }
    location /user_token/ {
        quickblox_session user_token;
        proxy_pass %%BACKEND%%;
    }
    location /renewed/ {
        quickblox renewed;
        quickblox_session user_token;
        proxy_pass %%BACKEND%%;
    }
    location /far/ {
        quickblox far;
        proxy_pass %%BACKEND%%;
    }
    location /pieces/ {
        proxy_buffering off;
        proxy_pass %%BACKEND%%;
    }
    location /told/ {
        quickblox_on_expired /listener;
        proxy_pass %%BACKEND%%;
    }
    location = /listener {
        internal;
        quickblox off;
        proxy_pass %%BACKEND%%;
    }
    location = /login {
        quickblox_login token;
    }
    location = /cookie {
        quickblox_login;
    }
    location = /logout {
        quickblox_logout;
    }
    location = /me {
        quickblox_check;
    }
    location = /status {
        quickblox off;
        stub_status;
    }
}
END
    env => Gateway::Worker::env());

my @workers = map { Gateway::Worker->new($_) } $nginx->workers;


# States

my $number = 1000;

sub token { return (token => $api->session(user_id => 5)) }

sub new_user {
    my $id = ++$number;
    $api->user(id => $id, login => "user$id", password => "Canary-Pw-$id");

    return $id;
}

# One whose session has to be validated again.
sub cookie {
    my $res = $t->post('/cookie', $bob, headers => [$JSON]);
    my @cookie = (headers => [['Cookie',
        ($res->header('Set-Cookie') // '') =~ /^(qb=[^;]+)/]]);
    $t->get('/forget/', @cookie);

    return @cookie;
}

# The path of somebody who has a session already.
sub made ($path) {
    $path .= '?user=' . new_user();
    $t->get($path);

    return $path;
}

# So many connections, or requests, are in nginx.  One kept connection asks,
# which is one of them.
my $asking = $t->client;

sub wait_status ($name, $count) {
    return $t->wait_for(sub {
        my $res = $asking->get('/status');
        $asking = $t->client if !$res->complete;
        return $res->body =~ /$name: (\d+)/ && $1 == $count + 1;
    }, "$count at $name");
}

# One has called, and all wait.
sub wait_for_one (@) {
    $api->wait_held(1);
    wait_status('Writing', $ALL);

    return;
}

my @known = token();
my @others;

# Of each: what makes the request of a client, what is done before, and until
# what is waited for.  cut: what is sent of a request is its "head", which is
# not whole, or a part of its "body"; none: nothing; finish: it is answered
# first.
my @states = (
    {
        name => 'connecting',
        none => 1,
        reached => sub ($connections, $go) {
            wait_status('Active connections', $connections);
        },
    }, {
        name => 'sending the head',
        cut => 'head',
        reached => sub ($connections, $go) {
            wait_status('Active connections', $connections);
        },
    }, {
        name => 'sending the body',
        cut => 'body',
        make => sub { (path => '/', @known, body => 'x' x 5000) },
    }, {
        name => 'a look-up',
        make => sub { (path => '/', token()) },
        before => sub { $api->fail(endpoint => $CHECK, hold => 1) },
        reached => sub (@) { $api->wait_held($ALL) },
        kept => 1,
    }, {
        name => 'the look-up of another',
        make => do {
            my ($count, @token) = 0;
            sub {
                @token = token() if $count++ % $ALL == 0;
                return (path => '/', @token);
            }
        },
        before => sub { $api->fail(endpoint => $CHECK, hold => 1) },
        reached => \&wait_for_one,
        kept => 1,
    }, {
        name => 'its turn, as too many are looked up',
        make => sub { (path => '/', token()) },
        before => sub {
            $api->fail(endpoint => $CHECK, hold => 1);
            $t->wait_for(sub {
                push @others, $t->start(path => '/', token());
                return $api->held == 2 * $CONNECTIONS / 4;
            }, 'end of the calls');
        },
        reached => sub ($connections, $go) {
            wait_status('Writing', @others + $ALL);
            push @$go, sub { $_->abort for splice @others };
        },
    }, {
        name => 'the API is far away, or has been',
        make => sub { (path => '/far/', token => 'far-' . ++$number) },
        reached => sub (@) { },
    }, {
        name => 'a login',
        make => sub { (path => '/user_token/?user=' . new_user()) },
        before => sub { $api->fail(endpoint => $USER_TOKEN, hold => 1) },
        reached => sub (@) { $api->wait_held($ALL) },
        kept => 1,
    }, {
        name => 'the login of another',
        make => sub { (path => '/user/') },
        before => sub {
            $api->expire($t->get('/forget/')->json->{token});
            $api->fail(endpoint => $CREATE, hold => 1);
        },
        reached => \&wait_for_one,
        kept => 1,
    }, {
        name => 'the upstream',
        make => sub { (path => '/held', @known) },
        before => sub { $backend->answer('/held', hold => 1) },
        reached => sub (@) { $backend->wait_held($ALL) },
    }, {
        name => 'the login of a replay',
        make => sub { (path => made('/user_token/a'), body => $body) },
        before => sub {
            $backend->answer('/user_token/a', status => 401, body => $DEAD);
            $api->fail(endpoint => $USER_TOKEN, hold => 1);
        },
        reached => sub (@) { $api->wait_held($ALL) },
    }, {
        name => 'a replay',
        make => sub { (path => made('/user_token/b'), body => $body) },
        before => sub {
            $backend->answer('/user_token/b', hold => 1);
            $backend->answer('/user_token/b', status => 401, body => $DEAD,
                times => $ALL);
            $api->fail(endpoint => $USER_TOKEN, hold => 1);
        },
        reached => sub (@) {
            $api->wait_held($ALL);
            $api->release;
            $backend->wait_held($ALL);
        },
    }, {
        name => 'the rest of a response',
        make => sub { (path => '/pieces/', @known) },
        before => sub {
            $backend->answer('/pieces/', pieces => ['one', 'two', 'three'],
                step => 1);
        },
        reached => sub (@) { $backend->wait_held($ALL) },
    }, {
        name => 'told of an expired session',
        make => sub { (path => '/told/', token()) },
        before => sub {
            $backend->answer('/told/', status => 401, body => $DEAD);
            $backend->answer('/listener', hold => 1);
        },
        finish => 1,
        reached => sub (@) { $backend->wait_held($ALL) },
    }, {
        name => 'a renewal',
        make => sub { (path => made('/renewed/')) },
        before => sub { $api->fail(endpoint => $CHECK, hold => 1) },
        finish => 1,
        reached => sub (@) { $api->wait_held($ALL) },
    }, {
        name => 'sending a login',
        cut => 'body',
        make => sub { (path => '/login', headers => [$JSON], body => $bob) },
    }, {
        name => 'a login of its own',
        make => sub { (path => '/login', headers => [$JSON], body => $bob) },
        before => sub { $api->fail(endpoint => $CREATE, hold => 1) },
        reached => sub (@) { $api->wait_held($ALL) },
    }, {
        name => 'a session adopted',
        make => sub {
            my %token = token();
            return (path => '/login', headers => [$JSON],
                body => qq({"token":"$token{token}"}));
        },
        before => sub { $api->fail(endpoint => $CHECK, hold => 1) },
        reached => sub (@) { $api->wait_held($ALL) },
    }, {
        name => 'a logout',
        make => sub { (path => '/logout', method => 'POST', cookie()) },
        before => sub { $api->fail(endpoint => $LOGOUT, hold => 1) },
        reached => sub (@) { $api->wait_held($ALL) },
    }, {
        name => 'a check',
        make => sub { (path => '/me', cookie()) },
        before => sub { $api->fail(endpoint => $CHECK, hold => 1) },
        reached => sub (@) { $api->wait_held($ALL) },
    }, {
        name => 'nothing, kept alive',
        make => sub { (path => '/', @known) },
        finish => 1,
        reached => sub (@) { wait_status('Writing', 0) },
    },
);


# Clients

# A request, or a part of it.
sub begin ($client, $state, %req) {
    my $cut = $state->{cut} // '';

    return $client->send(substr $client->format(path => '/', @known), 0, 40)
        if $cut eq 'head';

    my $bytes = $client->format(keepalive => 1, %req);

    return $client->send(substr $bytes, 0, $cut eq 'body'
        ? length($bytes) - 10 : length $bytes);
}

sub begin_h2 ($client, $state, %req) {
    my $cut = $state->{cut} // '';

    # It has no stream yet.
    if ($cut eq 'head') {
        $client->start(path => '/', @known, cut => 1);
        return;
    }

    return $client->start(%req, $cut eq 'body' ? (end => 0,
        body => substr $req{body}, 0, -10) : ());
}

# All begin; then the ways in which they go.
sub begin_all ($state) {
    my $make = $state->{make} // sub { () };
    my @requests = map { {$make->()} } 1 .. $ALL;
    my @again = map { {%$_} } @requests;
    my (@go, $connections);

    $state->{before}->() if $state->{before};

    for my $how ('close', 'abort') {
        for (1 .. $EACH) {
            my $client = $t->client;
            my $req = shift @requests;
            begin($client, $state, %$req) if !$state->{none};
            $client->finish if $state->{finish};
            push @go, sub { $client->$how };
            $connections++;
        }
    }

    for my $how ('reset', 'close', 'abort') {
        my $streams = $state->{cut} && $state->{cut} eq 'head' ? 1
            : $how eq 'reset' ? $EACH : 2;

        for (1 .. $EACH / $streams) {
            my $client = Gateway::H2->new(port => $t->port(1));
            my @ids = $state->{none} ? () : grep { defined } map {
                begin_h2($client, $state, %{shift @requests})
            } 1 .. $streams;
            $client->finish_all if $state->{finish};
            push @go, $how eq 'reset' ? sub { reset_all($client, @ids) }
                : sub { $client->$how };
            $connections++;
        }
    }

    return ($connections, \@go, \@again);
}

# The connection serves on.
sub reset_all ($client, @ids) {
    $client->reset($_) for @ids;

    is $client->finish($client->start(path => '/next', @known))->{status},
        200, 'and the next of its connection' if @ids;
    $client->close;

    return;
}

# What both workers hold once there is nothing left to do, or what they do not
# give back.
my $patience = 20;
my ($idle, $base);

sub settled {
    my ($before, $same, $holds) = ('', 0);

    eval {
        $t->wait_for(sub {
            $holds = [map { $_->holds } @workers];
            my $now = shown($holds, qw(descriptors connections pages heap));
            $same = $now eq $before ? $same + 1 : 0;
            $before = $now;
            return $base ? $now eq $base : $same > 2
                && (!$idle || $idle eq shown($holds,
                    qw(descriptors connections)));
        }, 'rest', $patience);
    } or $patience = 1;

    return $before;
}

sub shown ($holds, @what) {
    return join '; ', map {
        my $it = $_;
        join ', ', map { "$_ $it->{$_}" } @what;
    } @$holds;
}

sub private {
    my $private = 0;
    $private += $_->holds->{private} for @workers;

    return $private;
}

my $gone = 0;
my $memory;

wait_status('Active connections', 0);
settled();
$idle = shown([map { $_->holds } @workers], qw(descriptors connections));

for my $round (1 .. $ROUNDS) {
    for my $state (@states) {
        my $name = "F23: $state->{name}";
        my ($connections, $go, $again) = begin_all($state);

        $state->{reached} ? $state->{reached}->($connections, $go)
            : wait_status('Writing', $ALL);
        $_->() for @$go;
        $gone += $ALL if $round > 1;

        # Nobody is there but the one that asks.
        wait_status('Active connections', 0);

        is $t->get('/next', @known, timeout => 5)->status, 200,
            "$name: the next is served";

        $_->heal, $_->release for $api, $backend;

        my $now = settled();

        if ($state->{kept}) {
            $api->reset_calls;
            my %count;
            $count{$_->header('X-Status') // $_->status}++
                for map { $t->request(%$_) } @$again;
            is_deeply [\%count, $api->calls], [{HIT => $ALL}, 0],
                "$name: the result is kept";
            settled();
        }

        next if $round == 1;

        is $now, $base, "$name: nothing is left, round $round";
    }

    if ($round == 1) {
        $base = settled();
        $memory = private();
    }
}

my $growth = private() - $memory;

diag "$gone clients gone, $growth bytes of memory";
cmp_ok $growth, '<', 1 << 20, 'F23: nor any other memory' if $base !~ /heap 0/;

is_deeply [$nginx->workers], [map { $_->{pid} } @workers],
    'the workers live';

$t->done;
