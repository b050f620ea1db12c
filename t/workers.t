# Several workers, one zone: one look-up at a time for a session (T37), clients
# and workers that go away meanwhile (F19, F23), and what one worker drops is
# gone in all (T17).

use strict;
use warnings;
use lib 't/lib';

use Gateway;
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

$t->allow(qr/worker process \d+ exited on signal 9/);

my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';
my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';
my $NEED_USER = '{"errors":{"base":["Forbidden. Need user."]}}';

# "reuseport" gives each worker its part of the connections.
sub configuration {
    my ($more) = @_;

    return <<"END";
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
    $more
}

add_header X-Pid \$pid always;
add_header X-Status \$quickblox_status always;

server {
    listen 127.0.0.1:%%PORT_0%% reuseport backlog=1024;

    location / {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox chat;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /user/forget {
        quickblox chat;
        quickblox_session user;
        quickblox_forget on;
        proxy_pass %%BACKEND%%;
    }
    location /api/ {
        quickblox chat;
        proxy_pass %%API%%/;
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

my $patient = 'timeout 30s; lock_timeout 30s;';

# Kept connections, one to each worker.
sub one_to_each {
    my ($nginx) = @_;
    my %client;

    $t->wait_for(sub {
        my $client = $t->client;
        $client{$client->get('/pid')->header('X-Pid')} //= $client;

        return keys %client == $nginx->workers;
    }, 'connections to all workers');

    return map { $client{$_} } sort { $a <=> $b } keys %client;
}

# Until so many requests are under way in all workers together.  One kept
# connection, so that of those which ask only the last one is counted.
my $asking;

sub wait_requests {
    my ($count) = @_;

    return $t->wait_for(sub {
        my $body = $asking ? $asking->get('/status')->body : '';
        my ($writing) = $body =~ /Writing: (\d+)/;

        $asking = $t->client if !defined $writing;
        return defined $writing && $writing == $count + 1;
    }, "$count requests under way");
}

sub statuses {
    my %count;
    $count{join ' ', $_->status, $_->header('X-Status') // '-'}++ for @_;

    return join ', ', map { "$count{$_} x $_" } sort keys %count;
}


# T37: a cold zone, and as many clients as there are

for my $workers (1, 2, 4) {
    my $nginx = $t->nginx(configuration($patient), workers => $workers);

    for my $case (
        [$LOGIN, '/user/', undef, 200, 'HIT'],
        [$VALIDATION, '/', $api->session(user_id => 5), 200, 'HIT'],
        [$VALIDATION, '/', 'unknown-token-0123456789', 401, 'REJECTED'],
        [$VALIDATION, '/', $api->session(application_id => 93), 403,
            'REJECTED'],
    ) {
        my ($endpoint, $path, $token, $status, $later) = @$case;
        my $name = "T37: $workers workers, $endpoint to $status";

        $api->reset_calls;
        $backend->reset;
        $api->fail(endpoint => $endpoint, hold => 1);

        my @request = (path => $path, defined $token
            ? (token => $token) : ());
        wait_requests(0);
        my @clients = map { $t->start(@request) } 1 .. 400;
        wait_requests(400);
        $api->wait_held(1);

        is $api->calls, 1, "$name: one call is made";
        is $backend->hits, 0, 'and nothing let through';

        $api->heal;
        $api->release;
        my @responses = map { $_->finish(20) } @clients;

        is statuses(@responses), $status == 200
            ? '1 x 200 MISS, 399 x 200 WAIT' : "400 x $status REJECTED",
            'it serves 400 requests';
        is $api->calls, 1, 'there was no other';
        is $backend->hits, $status == 200 ? 400 : 0, 'hits of the backend';

        my %pids = map { $_->header('X-Pid') => 1 } @responses;
        is keys %pids, $workers, 'all workers took part';

        my %tokens = map { $_->header('QB-Token') // '' => 1 }
            $backend->requests;
        is_deeply [keys %tokens], $status == 200
            ? [$token // ($api->sessions)[-1]{token}] : [], 'with one token';

        is statuses($t->request(@request)), "1 x $status $later",
            'and a later request';
        is $api->calls, 1, 'asks nobody';
    }

    # Look-ups of other tokens do not wait.
    my @tokens = map { $api->session(user_id => 5) } 1 .. 8;
    $api->reset_calls;
    $api->fail(endpoint => $VALIDATION, hold => 1);

    wait_requests(0);
    my @clients = map { $t->start(path => '/', token => $_) }
        map { ($_) x 10 } @tokens;
    wait_requests(80);
    $api->wait_held(8);

    is $api->calls, 8, "T37: $workers workers, eight tokens: eight calls";

    $api->heal;
    $api->release;
    is statuses(map { $_->finish } @clients),
        '8 x 200 MISS, 72 x 200 WAIT', 'for eighty requests';

    $nginx->stop;
}


# F33: a session held that is found to have ended twice, by its validation and
# by an upstream's answer, in either order: one login makes it anew.

for my $order ('the validation', 'the upstream') {
    my $nginx = $t->nginx(configuration($patient), workers => 2);
    my ($one, $two) = one_to_each($nginx);
    my $name = "F33: $order knows last";

    $backend->answer('/user/late', hold => 1, status => 401,
        body => $EXPIRED, times => 1);

    my $late = $t->start(path => '/user/late');
    $backend->wait_held(1);

    $two->get('/user/forget');
    $api->expire($backend->last_request('/user/forget')->header('QB-Token'));
    $api->reset_calls;

    # The one that is held is answered as its time comes.
    $api->fail(endpoint => $order eq 'the upstream' ? $LOGIN : $VALIDATION,
        hold => 1, times => 1);
    $one->start(path => '/user/a', keepalive => 1);
    $api->wait_held(1);

    $backend->release;

    if ($order eq 'the upstream') {
        wait_requests(2);
        $backend->wait_hits('/user/late');
        $api->release;
    }

    my $after = $late->finish if $order eq 'the validation';
    $api->release;

    is statuses($one->finish), '1 x 200 MISS', "$name: who asks is served";
    is +($after // $late->finish)->status, 200, 'and who was replayed';
    is $api->calls($LOGIN), 1, 'after one login';
    is $backend->last_request('/user/a')->header('QB-Token'),
        $backend->last_request('/user/late')->header('QB-Token'),
        'with one session';

    $api->heal;
    $backend->heal;
    $nginx->stop;
}


# T37: who waits too long

{
    my $nginx = $t->nginx(configuration('timeout 30s; lock_timeout 200ms;'),
        workers => 2);

    for my $case ([$LOGIN, '/user/'], [$VALIDATION, '/']) {
        my ($endpoint, $path) = @$case;
        my ($first, $other) = one_to_each($nginx);
        my $same = $t->client;
        $same = $t->client
            until $same->get('/pid')->header('X-Pid')
                eq $first->get('/pid')->header('X-Pid');

        $api->reset_calls;
        $backend->reset;
        $api->fail(endpoint => $endpoint, hold => 1);

        my @request = (path => $path, keepalive => 1,
            token => $path eq '/' ? $api->session(user_id => 5) : undef);

        $first->start(@request);
        $api->wait_held(1);

        for (['the same', $same], ['another', $other]) {
            my ($worker, $client) = @$_;
            my $began = time;
            my $res = $client->request(@request);

            is statuses($res), '1 x 503 ERROR',
                "T37: $endpoint under way, lock_timeout in $worker worker";
            is $res->body, $UNAVAILABLE, 'body';
            is $res->header('Retry-After'), 1, 'Retry-After';
            cmp_ok time - $began, '>=', 0.19, 'after as long as it may wait';
        }

        is $api->calls, 1, 'they called nobody';
        is $backend->hits, 0, 'nothing was let through';

        $api->heal;
        $api->release;
        is statuses($first->finish), '1 x 200 MISS', 'the first is served';
        is statuses($other->request(@request)), '1 x 200 HIT',
            'and then the others';
        is $api->calls, 1, 'by one call';
    }

    $nginx->stop;
}


# T37: the call that all wait for fails

{
    my $nginx = $t->nginx(configuration($patient), workers => 2);
    my @clients = one_to_each($nginx);
    my @request = (path => '/', keepalive => 1,
        token => $api->session(user_id => 5));

    wait_requests(0);
    $api->reset_calls;
    $backend->reset;
    $api->fail(endpoint => $VALIDATION, hold => 1, status => 500);

    $_->start(@request) for @clients;
    wait_requests(2);
    $api->wait_held(1);
    $api->heal;
    $api->release;

    is statuses(map { $_->finish } @clients), '2 x 503 ERROR',
        'T37: a call that fails fails for all workers';
    is $api->calls, 1, 'none makes another';
    is $backend->hits, 0, 'nothing was let through';

    $nginx->stop;
}


# F23: clients that go away while the session is looked up

{
    my $nginx = $t->nginx(configuration($patient), workers => 2);

    for my $case (
        [$LOGIN, '/user/', 'abort'],
        [$VALIDATION, '/', 'abort'],
        [$VALIDATION, '/', 'close'],
    ) {
        my ($endpoint, $path, $how) = @$case;
        my $name = "F23: $endpoint, $how";
        my ($one, $two) = one_to_each($nginx);

        $api->expire_all;
        $nginx->stop;
        $nginx->start;
        ($one, $two) = one_to_each($nginx);

        my @request = (path => $path, keepalive => 1,
            token => $path eq '/' ? $api->session(user_id => 5) : undef);

        $api->reset_calls;
        $backend->reset;
        $api->fail(endpoint => $endpoint, hold => 1);

        my $gone = () = $nginx->access_log =~ / 499 /g;

        wait_requests(0);

        # The one that has begun, one that waits with it or for the other
        # worker, all of them.
        my @clients = ($one, $two, map { $t->start(@request) } 1 .. 20)
            [0 .. 21];
        $one->start(@request);
        $api->wait_held(1);
        $two->start(@request);
        wait_requests(22);

        $_->$how for @clients;
        $t->wait_for(sub {
            my $now = () = $nginx->access_log =~ / 499 /g;
            return $now == $gone + 22;
        }, '499 of all');

        is $api->held, 1, "$name: all are gone, the call is not";

        $api->heal;
        $api->release;
        is $t->request(@request)->status, 200, 'the next one';
        is statuses($t->request(@request)), '1 x 200 HIT', 'and the one after';
        is $api->calls, 1, 'need no further call';
        is $backend->hits, 2, 'the others never came to the backend';
    }

    # What then fails, fails for nobody.
    my $token = $api->session(user_id => 5);
    $api->fail(endpoint => $VALIDATION, hold => 1, status => 500, times => 1);

    my $client = $t->start(path => '/', token => $token);
    $api->wait_held(1);
    $client->abort;
    $nginx->wait_log(qr/client prematurely closed|reset by peer/);
    $api->release;
    $nginx->wait_log(qr/API call "GET \/session\.json" failed, status 500/);

    $t->wait_for(sub {
        $t->get('/', token => $token)->status == 200
    }, 'end of the back-off');
    pass 'F23: gone before the call failed';

    $nginx->stop;
}


# F19: a worker is killed

for my $case ([$LOGIN, '/user/'], [$VALIDATION, '/']) {
    my ($endpoint, $path) = @$case;
    my $nginx = $t->nginx(configuration('timeout 1s; lock_timeout 9s;'),
        workers => 2);

    my @request = (path => $path, keepalive => 1,
        token => $path eq '/' ? $api->session(user_id => 5) : undef);

    my ($one, $two) = one_to_each($nginx);
    my $pid = $one->get('/pid')->header('X-Pid');

    $api->reset_calls;
    $backend->reset;
    $api->fail(endpoint => $endpoint, blackhole => 1, times => 1);

    wait_requests(0);
    my $began = time;
    $one->start(@request);
    $api->wait_calls($endpoint, 1);
    $two->start(@request);
    wait_requests(2);
    kill KILL => $pid;

    my $res = $two->finish;
    my $took = time - $began;

    is statuses($res), '1 x 200 WAIT', "F19: $endpoint, the caller is killed";
    is $api->calls, 2, 'another worker calls';
    cmp_ok $took, '>=', 0.9, 'after the lease';
    is $backend->hits, 1, 'and serves';
    is $one->finish->status, 0, 'a client of the dead worker knows';

    # The one in its place knows the session as well.
    $t->wait_for(sub { $nginx->workers == 2 }, 'new worker');
    ($one, $two) = one_to_each($nginx);
    is statuses($one->request(@request), $two->request(@request)),
        '2 x 200 HIT', 'the session is known to all workers';
    is $api->calls, 2, 'without more calls';

    $nginx->stop;
}

{
    my $nginx = $t->nginx(configuration($patient), workers => 2);
    my ($one, $two) = one_to_each($nginx);
    my $pid = $two->get('/pid')->header('X-Pid');
    my @request = (path => '/', keepalive => 1,
        token => $api->session(user_id => 5));

    $api->reset_calls;
    $api->fail(endpoint => $VALIDATION, hold => 1);
    wait_requests(0);
    $one->start(@request);
    $api->wait_held(1);
    $two->start(@request);
    wait_requests(2);
    kill KILL => $pid;
    $t->wait_for(sub { !grep { $_ == $pid } $nginx->workers }, 'end');
    $api->heal;
    $api->release;
    is statuses($one->finish), '1 x 200 MISS', 'F19: one that waits is killed';
    is $two->finish->status, 0, 'its client knows';
    is $api->calls, 1, 'the other has its answer';

    $nginx->stop;
}

{
    # Killed at any moment, under load.
    my $nginx = $t->nginx(configuration('timeout 1s; lock_timeout 9s;'),
        workers => 4);
    $t->allow(qr/shared memory zone "quickblox" was locked by \d+/);

    my @tokens = map { $api->session(user_id => 5) } 1 .. 40;

    for my $round (1 .. 10) {
        my @clients = map { $t->start(path => '/', token => $_) }
            @tokens[map { $_ % 40 } $round * 4 .. $round * 4 + 39];
        kill KILL => ($nginx->workers)[$round % 4] // ();

        my %statuses = map { $_->finish->status => 1 } @clients;
        delete @statuses{0, 200};
        is_deeply \%statuses, {}, "F19: served, or cut off: round $round";
        $t->wait_for(sub { $nginx->workers == 4 }, 'new worker');
    }

    is statuses(map { $t->get('/', token => $_) } @tokens) =~
        s/(\d+) x 200 (?:HIT|MISS)(?:, )?//gr, '', 'and then all are served';

    $api->reset_calls;
    is statuses(map { $t->get('/', token => $_) } @tokens),
        '40 x 200 HIT', 'by what the zone knows';
    is $api->calls, 0, 'without calls';

    $nginx->stop;
}


# T17: what is dropped is gone in all workers

{
    my $nginx = $t->nginx(configuration('cache_valid 1s;'), workers => 2);
    my ($one, $two) = one_to_each($nginx);
    my $token = $api->session(user_id => 5);
    my @request = (path => '/', token => $token);

    $api->reset_calls;
    my $began = time;
    is statuses($one->request(@request), $two->request(@request)),
        '1 x 200 HIT, 1 x 200 MISS', 'T17: a session that both know';

    $api->expire($token);
    $backend->reset;
    my $res;
    $t->wait_for(sub {
        ($res = $two->request(@request))->status != 200
    }, 'end of cache_valid', 3);
    my $took = time - $began;

    is $res->status, 401, 'is refused when it was revoked';
    is $res->body, $EXPIRED, 'as expired';
    cmp_ok $took, '<', 2, 'within cache_valid';
    is $one->request(@request)->body, $EXPIRED, 'in the other one too';
    is $api->calls, 2, 'which need not ask';

    $nginx->stop;
}

{
    my $nginx = $t->nginx(configuration(''), workers => 2);
    my ($one, $two) = one_to_each($nginx);
    my $token;

    my $known = sub {
        $token = $api->session(user_id => 5);
        $_->request(path => '/', token => $token) for $one, $two;
        is statuses($two->request(path => '/', token => $token)),
            '1 x 200 HIT', "T17: @_: a session that both know";
        $backend->reset;
    };
    my $refused = sub {
        my ($status, $body) = @_;
        for my $client ($two, $one) {
            my $res = $client->request(path => '/', token => $token);
            is $res->status . ' ' . $res->body, "$status $body", 'refused';
        }
    };

    $known->('logout, DELETE /login.json');
    is $one->request(method => 'DELETE', path => '/api/login.json',
        token => $token)->status, 200, 'one sees its logout';
    $refused->(403, $NEED_USER);
    is $backend->hits, 0, 'by both';

    $known->('DELETE /session.json');
    is $one->request(method => 'DELETE', path => '/api/session.json',
        token => $token)->status, 200, 'one sees its end';
    $refused->(401, $EXPIRED);
    is $backend->hits, 0, 'by both';

    $known->('an expired response');
    $api->expire($token);
    $backend->answer('/', status => 401, body => $EXPIRED, times => 1);
    is $one->request(path => '/', token => $token)->body, $EXPIRED,
        'one sees its expired response';
    $refused->(401, $EXPIRED);
    is $backend->hits, 1, 'by both, before the backend';

    # A session held: the new one is everybody's.
    is statuses($one->request(path => '/user/a')), '1 x 200 MISS',
        'T17: a session held';
    is statuses($two->request(path => '/user/a')), '1 x 200 HIT', 'by both';

    my $old = $backend->last_request('/user/a')->header('QB-Token');
    $api->reset_calls;
    $backend->answer('/user/b', status => 401, body => $EXPIRED, times => 1);
    is $one->request(path => '/user/b')->status, 200,
        'one sees an expired response';
    is statuses($two->request(path => '/user/c')), '1 x 200 HIT',
        'the other one';
    my $new = $backend->last_request('/user/c')->header('QB-Token');
    isnt $new, $old, 'has a new session';
    is $new, $backend->last_request('/user/b')->header('QB-Token'),
        'the same';
    is $api->calls($LOGIN), 1, 'after one login';
}

$t->done;
