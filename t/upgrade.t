# Connections that go on: WebSocket and other upgrades under a session, the
# replay of one that was refused as expired, streams of events that nothing
# holds up, and what outlives a session.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

$t->nginx(<<'END', workers => 2);
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
}

log_format upgrade '$request_uri $status [$upstream_status] '
    '[$quickblox_replayed]';
access_log %%DIR%%/nginx/access.log upgrade;

map $http_upgrade $connection_upgrade {
    default upgrade;
    ''      '';
}

proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;

server {
    listen 127.0.0.1:%%PORT_0%%;
    quickblox chat;

    location /user/ {
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /client/ {
        proxy_pass %%BACKEND%%;
    }
    location /user/unbuffered/ {
        quickblox_session user;
        proxy_buffering off;
        proxy_pass %%BACKEND%%;
    }
    location /client/unbuffered/ {
        proxy_buffering off;
        proxy_pass %%BACKEND%%;
    }
}
END

my $EXPIRED = '{"errors":{"base":["Required session does not exist"]}}';
my $DEAD = {status => 401, body => $EXPIRED};

my $number = 0;

sub logged ($path) {
    my $line;

    $t->wait_for(sub {
        ($line) = $t->access_log =~ /^(\Q$path\E .*)/m;
    }, "log line of $path");

    return $line;
}

# A new session or that of the gateway, whichever the source needs.
sub credential ($source) {
    return $source eq 'client' ? (token => $api->session(user_id => 5)) : ();
}

sub upgrade ($path, $protocol, %opt) {
    my $client = $t->client;
    my $more = delete $opt{more} // '';

    $client->start(path => $path, headers => [['Upgrade', $protocol],
        ['Connection', 'Upgrade'], ['Sec-WebSocket-Key', 'x3JJHMbDL1E=']],
        %opt);

    return $client->send($more);
}

sub echoes ($client, $text) {
    $client->send($text);
    return $client->read_until(qr/\Q$text\E/) eq $text;
}


# F31: an upgrade passes with the token, at once or as a replay.

for my $source (qw(user client)) {
    for my $protocol ('websocket', 'custom/1.0') {
        for my $dead (0, 1) {
            next if $dead && $source eq 'client';

            my $name = join ', ', $source, $protocol,
                $dead ? 'dead session' : ();
            my $path = "/$source/" . ++$number;
            my %token = credential($source);
            my $old = $t->get("/$source/", %token)->json->{token};

            $api->reset_calls;
            $backend->answer($path, upgrade => 1);
            $backend->answer($path, %$DEAD, times => 1) if $dead;

            # A client in a hurry does not wait for the 101.
            my $client = upgrade($path, $protocol, %token, more => 'early');
            my $res = $client->finish;

            is $res->status, 101, "F31: $name: upgraded";
            is $res->header('Upgrade'), $protocol, "F31: $name: to that";
            is $client->read_until(qr/early/), 'early',
                "F31: $name: nothing that was sent early is lost";
            ok echoes($client, 'x' x 100_000), "F31: $name: bytes pass";

            my @requests = $backend->requests($path);

            is_deeply [map { [$_->header_all('Upgrade'),
                    $_->header_all('Connection')] } @requests],
                [([$protocol, 'upgrade']) x ($dead ? 2 : 1)],
                "F31: $name: what the backend was asked";
            is scalar(grep { $_->header('QB-Token') eq $old } @requests), 1,
                "F31: $name: with the token";
            is $api->calls, $dead, "F31: $name: a login for a replay alone";

            # T66: it goes on whatever becomes of the session.
            $api->expire_all;
            $api->reset_calls;
            is $t->post("/$source/login", 'x', %token)->status,
                200, "T66: $name: another request, that forgets";
            ok echoes($client, 'still there'), "T66: $name: goes on";

            $client->close;
            is logged($path), "$path 101 "
                . ($dead ? '[401 : 101] [1]' : '[101] [-]'),
                "F31: $name: one line in the access log";
            $backend->heal;
        }
    }
}

# F31: refused ones get a plain answer, and the backend hears nothing.
{
    my $token = $api->session(user_id => 5);
    my $plain = [['Content-Type', 'application/json']];

    my $res = upgrade('/client/none', 'websocket')->finish;
    is_deeply [$res->status, $res->body],
        [401, '{"errors":["Token is required"]}'],
        'F31: no token, no upgrade';
    is $backend->hits('/client/none'), 0, 'F31: the backend is not asked';

    $backend->answer('/client/dead', upgrade => 1);
    $backend->answer('/client/dead', %$DEAD, headers => [['Set-Cookie', 'a']],
        times => 1);
    $res = upgrade('/client/dead', 'websocket', token => $token)->finish;
    is_deeply [$res->status, $res->body, [$res->headers('Set-Cookie')]],
        [401, $EXPIRED, []], 'F31: an expired session of a client is mapped';
    is $backend->hits('/client/dead'), 1, 'F31: and is not replayed';

    # Nothing but the first 401.
    $backend->answer('/user/twice', %$DEAD);
    $res = upgrade('/user/twice', 'websocket')->finish;
    is_deeply [$res->status, $res->body, $backend->hits('/user/twice')],
        [401, $EXPIRED, 2], 'F31: refused twice, it passes';

    $backend->answer('/user/other', status => 403, body => 'no');
    $res = upgrade('/user/other', 'websocket')->finish;
    is_deeply [$res->status, $res->body, $backend->hits('/user/other')],
        [403, 'no', 1], 'F31: refused otherwise, it passes';
    $backend->heal;
}


# F31: a stream of events arrives as it is sent, and is never sent again.

# A big event comes in several chunks.
my $END = qr/\n(?:\r\n[0-9a-f]+\r\n)?\n\r\n\z/;
my $FRAMING = qr/(?:\A|\r\n)[0-9a-f]+\r\n|\r\n\z/;

my @streams = (
    ['X-Accel-Buffering', '', [['X-Accel-Buffering', 'no']]],
    ['proxy_buffering off', 'unbuffered/', []],
);

for (@streams) {
    my ($how, $under, $headers) = @$_;

    for my $source (qw(user client)) {
        for my $dead (0, 1) {
            next if $dead && $source eq 'client';

            my $name = join ', ', $how, $source, $dead ? 'dead session' : ();
            my $path = "/$source/$under" . ++$number;
            my %token = credential($source);

            # One of the events looks like an expired response.
            my @events = map { "data: $_\n\n" } 1, $EXPIRED, 'x' x 9000, 4;

            $t->get("/$source/", %token);
            $api->reset_calls;
            $backend->answer($path, pieces => \@events, step => 1,
                headers => [@$headers, ['Content-Type', 'text/event-stream']]);
            $backend->answer($path, %$DEAD, times => 1) if $dead;

            my $client = $t->start(path => $path, %token);
            $backend->wait_held(1);
            like $client->read_until(qr/\r\n\r\n/), qr{^HTTP/1.1 200 },
                "F31: $name: the head arrives alone";

            for my $event (@events) {
                $backend->release;
                my $chunks = $client->read_until($END, 3);

                ok $chunks =~ s/$FRAMING//gr eq $event,
                    "F31: $name: an event arrives";
                $backend->wait_held(1);
            }

            $backend->release;
            ok $client->closed, "F31: $name: and the end";
            is $backend->hits($path), $dead ? 2 : 1,
                "F31: $name: nothing is sent again";
            is $api->calls, $dead, "F31: $name: a login for a replay alone";
            $backend->heal;
        }
    }
}

# One that breaks off has broken off.
for my $under ('', 'unbuffered/') {
    my $path = "/user/${under}broken";

    $api->reset_calls;
    $backend->answer($path, body => "data: $EXPIRED\n\n" x 100, cut => 'body');
    my $res = $t->get($path);

    is_deeply [$res->status, $res->complete], [200, 0],
        "F31: a broken stream, $under: ends early";
    is_deeply [$backend->hits($path), $api->calls], [1, 0],
        "F31: a broken stream, $under: is not sent again";
    $backend->heal;
}

$t->done;
