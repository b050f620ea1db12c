# What there is not enough of: room for the bodies of clients (F27),
# descriptors and connections (F28).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(sha256_hex);
use Gateway;
use IO::Socket::INET ();
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

my $CONFIGURATION = <<'END';
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
    timeout 30s;
    lock_timeout 30s;
}

quickblox_application impatient {
    api %%API%%;
    application_id 92;
    zone quickblox;
    lock_timeout 300ms;
}

add_header X-Pid $pid always;
add_header X-Status $quickblox_status always;

client_body_buffer_size 8k;
client_max_body_size 8m;
client_header_timeout 30s;
keepalive_requests 10000;

server {
    listen 127.0.0.1:%%PORT_0%% backlog=1024;
    client_body_temp_path %%DIR%%/bodies;

    location / {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox chat;
        quickblox_session user;
        quickblox_expired 401 500;
        proxy_pass %%BACKEND%%;
    }
    location /soon/ {
        quickblox impatient;
        proxy_pass %%BACKEND%%;
    }
    location = /logout {
        quickblox chat;
        quickblox_logout;
    }
    location = /here {
        quickblox chat;
        stub_status;
    }
    location = /here/user {
        quickblox chat;
        quickblox_session user;
        stub_status;
    }
    location = /status {
        stub_status;
    }
}
END

sub seen ($res) {
    return join ' ', $res->status, $res->header('X-Status') // '-';
}

sub is_refusal ($res, $name) {
    return is_deeply [seen($res), $res->header('Retry-After'), $res->body],
        ['503 ERROR', 1, $UNAVAILABLE], $name;
}


# F27: a body that cannot be kept

my $bodies = $t->dir . '/bodies';
my $size = 3_000_000;
my $large = join '', map { chr rand 256 } 1 .. 100_000;
$large x= $size / length $large;

# Each is what nginx runs under, and makes the bodies' folder useless, and
# useful again.
my @folders = (
    ['the folder is gone', [],
        sub { rmdir $bodies or die "rmdir: $!" },
        sub { mkdir $bodies or die "mkdir: $!" }],
    ['EACCES',
        $> != 0 ? []
            : ['setpriv', '--bounding-set', '-dac_override,-dac_read_search'],
        sub { chmod 0, $bodies or die "chmod: $!" },
        sub { chmod 0700, $bodies or die "chmod: $!" }],
    ['disk full', tmpfs('1m'), undef, undef],
);

# A file system of this nginx's own, which goes with it.
sub tmpfs ($room) {
    my $mount = "mount -t tmpfs -o size=$room tmpfs";

    return ['unshare', '-m', 'sh', '-c', qq{$mount "\$0" && exec "\$@"},
        $bodies] if $> == 0;

    my ($user, $group) = ($>, $) + 0);

    return ['unshare', '-rm', 'sh', '-c', qq{$mount "\$0" && exec unshare }
        . qq{-U --map-user=$user --map-group=$group "\$@"}, $bodies];
}

for my $case (@folders) {
    my ($what, $under, $break, $mend) = @$case;
    my $name = "F27: $what";

    mkdir $bodies if !-d $bodies;

    SKIP: {
        skip "$name: @$under[0 .. 1] is not allowed here", 1
            if @$under && system("@{[map { quotemeta } @$under]} true "
                . '>/dev/null 2>&1') != 0;

        my $nginx = $t->nginx($CONFIGURATION, under => $under);
        my $pid = ($nginx->workers)[0];

        for my $path ('/', '/user/') {
            my @token = $path eq '/'
                ? (token => $api->session(user_id => 5)) : ();
            my @body = (path => $path, body => $large);

            $break->() if $break;
            $api->reset_calls;
            $backend->reset;
            my $accepted = $backend->connections->{accepted};

            for my $more ([], [chunked => 10_000], []) {
                my $res = $t->request(@body, @token, @$more);

                is $res->status, 500, "$name: $path gets 500";
                is $res->header('X-Pid'), $pid, 'of nginx itself';
            }

            is $backend->hits, 0, "$name: nothing reaches the backend";
            is $backend->connections->{accepted}, $accepted,
                'not even a connection';

            my $small = $t->request(path => $path, body => 'x' x 8000, @token);

            is seen($small), '200 HIT', "$name: one in memory is served";
            is $small->header('X-Pid'), $pid, 'by the same worker';
            is $small->json->{body_length}, 8000, 'whole';
            is $api->calls, 1, "$name: the session is as it was";

            if ($mend) {
                $mend->();
                my $res = $t->request(@body, @token);
                is seen($res), '200 HIT', "$name: and then all are";
                is $res->json->{body_sha256}, sha256_hex($large), 'whole';

            } else {
                # What was written of the others is no longer there.
                my $body = substr $large, 0, 900_000;
                my $res = $t->request(path => $path, body => $body, @token);
                is seen($res), '200 HIT', "$name: one that has room is served";
                is $res->json->{body_sha256}, sha256_hex($body), 'whole';
            }

            is $api->calls, 1, 'without another call';
        }

        is_deeply [$nginx->workers], [$pid], "$name: the worker lives";
        $nginx->stop;
    }
}


# F28: what look-ups may take of a worker's connections and descriptors

for my $case (
    ['worker_connections 64', events => 'worker_connections 64;'],
    ['ulimit -n 64', under => ['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh']],
    ['worker_rlimit_nofile 64', main => 'worker_rlimit_nofile 64;'],
) {
    my ($name, @options) = @$case;

    # Valgrind has descriptors of its own, and lets nobody limit them.
    next if $ENV{QUICKBLOX_VALGRIND} && $name ne 'worker_connections 64';
    $name = "F28: $name";

    my $nginx = $t->nginx($CONFIGURATION, @options);
    my $known = $t->client;
    my @known = (path => '/known', token => $api->session(user_id => 5),
        keepalive => 1);

    is seen($known->request(@known)), '200 MISS', "$name: a known session";

    # A quarter of them.
    $api->fail(endpoint => $VALIDATION, hold => 1);
    $api->reset_calls;
    $backend->reset;

    my @tokens = map { $api->session(user_id => 5) } 1 .. 40;
    my @under_way = map { $t->start(path => '/x', token => $_) }
        @tokens[0 .. 15];
    $api->wait_held(16);
    pass "$name: sixteen look-ups begin";

    my @waiting = map { $t->start(path => '/x', token => $_) }
        @tokens[16 .. 23];
    my @gone = map { $t->start(path => '/x', token => $_) } @tokens[24 .. 26];
    my $logout = $t->start(method => 'POST', path => '/logout',
        token => $tokens[39]);
    my $impatient = $t->start(path => '/soon/', token => $tokens[27]);

    is_refusal $impatient->finish,
        "$name: more than that wait, for lock_timeout";

    $_->abort for @gone, $logout;

    is $api->held, 16, "$name: the API is called no more";
    is $backend->hits, 0, "$name: nothing is let through";

    is seen($known->request(@known)), '200 HIT',
        "$name: who is known is served" for 1 .. 3;
    is seen($t->request(@known, keepalive => 0)), '200 HIT',
        "$name: on connections of his own as well" for 1 .. 3;

    # Of one who waits for a call, and of one whose call waits.
    my @same = map { $t->start(path => '/x', token => $_) } @tokens[0, 16];

    is seen($t->get('/user/x')), '200 MISS',
        "$name: the gateway's own session is made";
    is seen($t->get('/user/x')), '200 HIT', "$name: and used";
    is $api->calls($LOGIN), 1, "$name: by one call";

    $api->heal;
    $api->release;

    is_deeply [map { seen($_->finish) } @under_way, @waiting],
        [('200 MISS') x 24], "$name: then all are served";
    is_deeply [map { seen($_->finish) } @same], [('200 WAIT') x 2],
        "$name: and who waited with them";

    $api->wait_calls('DELETE /login.json', 1);
    pass "$name: a logout is one, though its client has gone away";

    is seen($t->get('/x', token => $tokens[28])), '200 MISS',
        "$name: and what comes later";

    my %asked;
    $asked{$_->header('QB-Token')}++ for $api->requests($VALIDATION);
    is_deeply \%asked, {map { $_ => 1 } @tokens[0 .. 23, 28]},
        "$name: one call for each, none for who has gone away";

    my @lines = $nginx->error_log
        =~ /^.*\[(?!info|debug).*quickblox(?!_).*$/mg;
    is @lines, 1, "$name: the log tells of it once";
    like $lines[0], qr/\[warn\].* "\w+": 16 API calls are under way, /,
        'and of what it is';

    $nginx->stop;
}


# F28: others have taken all; that is no failure of the API

for my $case (
    ['worker_connections', qr/\[alert\] .* worker_connections are not enough/,
        events => 'worker_connections 40;'],
    ['descriptors', qr/accept4?\(\) failed \(24: /,
        main => 'worker_rlimit_nofile 40;'],
) {
    my ($name, $exhausted, @options) = @$case;
    next if $ENV{QUICKBLOX_VALGRIND} && $name eq 'descriptors';
    $name = "F28: all $name are taken";

    $t->allow(qr/socket\(\) failed \(24: /,
        qr/\d+ worker_connections are not enough/);

    my $nginx = $t->nginx($CONFIGURATION, @options);
    my $token = $api->session(user_id => 5);

    is seen($t->get('/here', token => $token)), '200 MISS',
        "$name: a known session";

    # The last line of each request is not sent yet, so that nginx cannot
    # close any of these connections to have another.
    my $begin = sub ($path, $token = undef) {
        my $client = $t->client;
        return $client->send($client->format(path => $path, token => $token)
            =~ s/\r\n\z//r);
    };
    my @unknown = map { $begin->('/here', $api->session(user_id => 5)) }
        1 .. 3;
    my $user = $begin->('/here/user');
    my $known = $begin->('/here', $token);
    my @others;

    my $take_all = sub {
        my $lines = () = $nginx->error_log =~ /$exhausted/g;

        $t->wait_for(sub {
            push @others, $begin->('/status') if @others < 200;
            my $now = () = $nginx->error_log =~ /$exhausted/g;
            return $now > $lines;
        }, 'end of what there is');
    };

    $api->reset_calls;

    for my $client (@unknown, $user) {
        $take_all->();
        is_refusal $client->send("\r\n")->finish,
            "$name: who is not known is refused";
    }

    $take_all->();
    is seen($known->send("\r\n")->finish), '200 HIT',
        "$name: who is, is served";
    is $api->calls, 0, "$name: the API was not called";

    $_->abort for @others;
    my $active = 0;
    $t->wait_for(sub {
        ($active) = $t->get('/status', timeout => 1)->body
            =~ /Active connections: (\d+)/;
        return ($active // 0) == 1;
    }, 'connections');

    is seen($t->get('/here', token => $api->session(user_id => 5))),
        '200 MISS', "$name: when they are free, a look-up succeeds at once";
    is seen($t->get('/here/user')), '200 MISS', "$name: and a login";

    my @lines = $nginx->error_log =~ /^.*quickblox application.*$/mg;
    is @lines, 1, "$name: the log tells of it once";
    like $lines[0], qr/no descriptor, connection or memory is left, source: /,
        'and of what it is';

    $nginx->stop;
}

# F28: a worker whose connections are many calls the API a thousand times at
# once, as more would be in each other's way

SKIP: {
    my $descriptors = `sh -c 'ulimit -n'`;
    skip 'F28: too few descriptors', 1
        if $descriptors =~ /^(\d+)$/ && $1 < 8192;

    my $silent = IO::Socket::INET->new(Listen => 4096,
        LocalAddr => '127.0.0.1') or die "listen: $!\n";

    my $nginx = $t->nginx(<<"END", events => 'worker_connections 8192;');
quickblox_application chat {
    api http://127.0.0.1:${\$silent->sockport};
    application_id 92;
    zone quickblox 1m;
    connect_timeout 30s;
    timeout 30s;
    lock_timeout 30s;
}

server {
    listen 127.0.0.1:%%PORT_0%% backlog=1024;

    location / {
        quickblox chat;
        stub_status;
    }
}
END

    my @clients = map { $t->start(path => '/', token => sprintf '%040d', $_) }
        1 .. 1001;

    $t->wait_for(sub { $nginx->error_log =~ /others wait/ },
        'end of the calls');
    like $nginx->error_log, qr/"chat": 1000 API calls are under way, /,
        'F28: of many connections a thousand are for calls';

    # The calls fail, and nobody waits for them any more.
    close $silent;
    $_->finish for @clients;
    $nginx->stop;
}


$t->done;
