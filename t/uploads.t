# Bodies of clients: one of 100 MB that is sent twice (F26), and those that
# come slowly, or never, while the session is looked up (T38).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA ();
use Gateway;
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';
my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';

my $nginx = $t->nginx(<<'END');
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

client_max_body_size 200m;
client_body_timeout 30s;
add_header X-Seen "$quickblox_status$quickblox_replayed" always;

server {
    listen 127.0.0.1:%%PORT_0%%;

    location / {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox chat;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
}
END

sub seen ($res) { return $res->status . ' ' . $res->header('X-Seen') }


# F26: an expired response to 100 MB

{
    my $megabyte = join '', map { chr rand 256 } 1 .. 1 << 20;
    my $body = '';
    $body .= pack('N', $_) . substr $megabyte, 4 for 1 .. 100;
    my $sum = Digest::SHA::sha256_hex($body);

    for my $how ([], [chunked => 1 << 20]) {
        my $name = 'F26: 100 MB' . (@$how ? ' in chunks' : '');

        is $t->get('/user/warm')->status, 200, "$name: there is a session";
        $api->reset_calls;
        $backend->reset;
        $backend->answer('/user/upload', status => 401, body => $EXPIRED,
            times => 1);

        my $res = $t->post('/user/upload', $body, @$how, timeout => 25);
        is seen($res), '200 MISS1', "$name: are sent once more";
        is $api->calls($LOGIN), 1, "$name: after one login";

        my @requests = $backend->requests('/user/upload');
        is_deeply [map { [@$_{qw(body_length body_sha256)}] } @requests],
            [([100 << 20, $sum]) x 2], "$name: twice the same bytes";
        isnt $requests[0]->header('QB-Token'),
            $requests[1]->header('QB-Token'), "$name: with two tokens";

        is_deeply [glob $nginx->dir . '/client_body/*'], [],
            "$name: and are on no disk any more";
    }
}


# T38: bodies and look-ups, slow both

my $BODY = 'name=value&' x 1000;

# How much of the body is there when the look-up begins, and how it is sent.
my @sent = (
    ['the head alone', 0, []],
    ['one byte', 1, []],
    ['half a body', 5500, []],
    ['all but a byte', length($BODY) - 1, []],
    ['a whole body', length $BODY, []],
    ['half a body in chunks', 5500, [chunked => 100]],
    ['the head alone, Expect', 0, [headers => [['Expect', '100-continue']]]],
);

# What a client has sent, and the rest.
sub parts ($client, $token, $size, $how) {
    my ($head, $body) = $client->format(method => 'POST', path => '/slow',
        token => $token, body => $BODY, @$how) =~ /\A(.*?\r\n\r\n)(.*)\z/s;

    return ($head . substr($body, 0, $size), substr $body, $size);
}

# Lines of the access log with the status of a client that has gone.
sub gone () {
    my $count = () = $nginx->access_log =~ / 499 /g;
    return $count;
}

for my $case (@sent) {
    my ($what, $size, $how) = @$case;

    # The rest comes during the look-up, or after it.
    for my $when ('during', 'after') {
        my $name = "T38: $what, the rest $when the look-up";
        my $token = $api->session(user_id => 5);

        $api->reset_calls;
        $backend->reset;
        $api->fail(endpoint => $VALIDATION, hold => 1);

        my $client = $t->client;
        my ($first, $rest) = parts($client, $token, $size, $how);

        $client->send($first);
        $api->wait_held(1);
        $client->send($rest) if $when eq 'during';
        is $backend->hits, 0, "$name: nothing is let through";

        $api->heal;
        $api->release;

        if ($when eq 'after') {
            # Known to all by now, though this body is still to come.
            is $t->get('/x', token => $token)->status, 200,
                "$name: others go on";
            $client->send($rest);
        }

        my $res = $client->finish;
        is seen($res), '200 MISS', "$name: is served";
        is $res->json->{body_sha256}, Digest::SHA::sha256_hex($BODY),
            "$name: whole";
        is $api->calls, 1, "$name: by one call";
    }

    # The client goes away; the look-up goes on, and succeeds or fails.
    for my $end (qw(abort close)) {
        for my $fails (0, 1) {
            my $name = "T38: $what, then $end" . ($fails ? ', refused' : '');
            my $token = $fails ? "unknown-$what-$end" =~ s/\W/-/gr
                : $api->session(user_id => 5);

            $api->reset_calls;
            $backend->reset;
            $api->fail(endpoint => $VALIDATION, hold => 1);

            my $gone = gone();
            my $client = $t->client;
            my ($first) = parts($client, $token, $size, $how);

            $client->send($first);
            $api->wait_held(1);
            $client->$end;
            $t->wait_for(sub { gone() == $gone + 1 }, '499');
            is $api->held, 1, "$name: the call goes on";

            # Somebody with the same token takes it over.
            my $other = $t->start(path => '/x', token => $token);
            $api->heal;
            $api->release;

            my @expected = $fails ? ('401 REJECTED') x 2
                : ('200 WAIT', '200 HIT');
            my @got = map { seen($_) } $other->finish,
                $t->get('/x', token => $token);
            $got[0] =~ s/ HIT/ WAIT/;
            is_deeply \@got, \@expected, "$name: its answer is kept";
            is $api->calls, 1, "$name: there is no other call";
            is_deeply [$backend->hits('/slow'), $backend->hits],
                [0, $fails ? 0 : 2], "$name: and the request is no more";
        }
    }
}

is $nginx->error_log =~ /\[error\]/, '', 'T38: nobody calls that an error';

$t->done;
