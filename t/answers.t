# What the API says of a session is taken as it says it (F35), unless it is a
# bomb (T36).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

my $LOGIN = 'POST /session.json';
my $VALIDATION = 'GET /session.json';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

my $nginx = $t->nginx(<<'END', workers => 2);
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
}

quickblox_application brief {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    zone quickblox;
    cache_valid 1s;
}

map $quickblox_user_id $bob {
    5 1;
}

add_header X-Seen "$quickblox_status $quickblox_user_id" always;

server {
    listen 127.0.0.1:%%PORT_0%%;

    location / {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
    location /brief/ {
        quickblox brief;
        proxy_pass %%BACKEND%%;
    }
    location /brief/bob/ {
        quickblox brief;
        quickblox_require user $bob;
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox chat;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
}
END

sub seen ($res) {
    return join ' ', $res->status, $res->header('X-Seen') // '-';
}

# Asks until the session was asked for again.
sub validated ($path, $token) {
    my $calls = $api->calls($VALIDATION);
    my $res;

    $t->wait_for(sub {
        $res = $t->get($path, token => $token);
        return $api->calls($VALIDATION) > $calls;
    }, 'validation');

    return $res;
}


# F35: "ts" is the API's affair

my $now = time;

is $t->get('/user/x')->status, 200, 'F35: a session of the gateway\'s';

for my $case (
    ['now', int $now], ['of yesterday', int $now - 86400],
    ['of tomorrow', int $now + 86400], ['0', 0], ['negative', -1],
    ['of milliseconds', int $now * 1000], ['a text', 'soon'],
    ['an object', {a => 1}], ['missing', undef],
) {
    my ($name, $ts) = @$case;
    my $token = $api->session(user_id => 5);

    $api->fail(endpoint => $VALIDATION, patch => {session => {ts => $ts}});
    is seen($t->get('/x', token => $token)), '200 MISS 5',
        "F35: ts $name: the session is live";
    is seen($t->get('/x', token => $token)), '200 HIT 5',
        "F35: ts $name: and remembered";
    $api->heal;

    # The gateway's own, which has just expired.
    $api->expire_all;
    $backend->answer('/user/x', status => 401, times => 1,
        body => '{"errors":{"base":["Required session does not exist"]}}');
    $api->fail(endpoint => $LOGIN, patch => {session => {ts => $ts}});
    $api->reset_calls;

    like seen($t->get('/user/x')), qr/\A200 \w+ 1\z/,
        "F35: ts $name: a session of the gateway's is made";
    is seen($t->get('/user/y')), '200 HIT 1', "F35: ts $name: and used";
    is $api->calls($LOGIN), 1, "F35: ts $name: by one login";
    is $backend->last_request('/user/y')->header('QB-Token'),
        ($api->sessions)[-1]{token}, "F35: ts $name: with its new token";
    $api->heal;
    $backend->heal;
}


# F35: a token that has become another user's

{
    my $token = $api->session(user_id => 5);
    $backend->reset;

    is seen($t->get('/brief/bob/x', token => $token)), '200 MISS 5',
        'F35: a session of bob';

    $api->fail(endpoint => $VALIDATION, patch => {session => {user_id => 6}});
    is seen(validated('/brief/x', $token)), '200 MISS 6',
        'F35: has become one of alice';
    like seen($t->get('/brief/x', token => $token)), qr/^200 \w+ 6$/,
        'F35: for all' for 1 .. 4;

    my $hits = $backend->hits;
    is $t->get('/brief/bob/x', token => $token)->status, 403,
        'F35: and may no longer what bob may' for 1 .. 4;
    is $backend->hits, $hits, 'F35: nothing of that is let through';

    # Nobody's, another application's, and back.
    $api->heal;
    $api->fail(endpoint => $VALIDATION, patch => {session => {user_id => 0}});
    is validated('/brief/x', $token)->status, 403, 'F35: one of no user';
    $api->heal;
    $api->fail(endpoint => $VALIDATION,
        patch => {session => {application_id => 93}});
    is validated('/brief/x', $token)->status, 403,
        'F35: of another application';
    $api->heal;

    my $res;
    $t->wait_for(sub {
        ($res = $t->get('/brief/bob/x', token => $token))->status == 200
    }, 'end of cache_invalid');
    like seen($res), qr/^200 \w+ 5$/, 'F35: and one of bob again';
}

{
    # A token that the answer exchanges for another is vouched for by nobody.
    my ($token, $other) = map { $api->session(user_id => $_) } 5, 6;
    my $hits = $backend->hits;

    $api->fail(endpoint => $VALIDATION,
        patch => {session => {token => $other, user_id => 6}});
    my $res = $t->get('/x', token => $token);
    is $res->status . $res->body, 503 . $UNAVAILABLE,
        'F35: an answer about another token';
    is $backend->hits, $hits, 'F35: lets nobody through';
    $api->heal;
    is seen($t->get('/x', token => $token)), '200 MISS 5',
        'F35: says nothing of this one';
    is seen($t->get('/x', token => $other)), '200 MISS 6',
        'F35: nor of the other';
}


# T36: small enough to be read, and yet

my @workers = $nginx->workers;

for my $case (
    ['30,000 arrays', '[' x 30_000 . ']' x 30_000],
    ['arrays without end', '[' x 60_000],
    ['10,000 objects', '{"a":' x 10_000 . '1' . '}' x 10_000],
    ['15,000 objects without end', '{"":' x 15_000],
    ['number of 60,000 digits, the user\'s', undef, '1' x 60_000],
    ['exponent of 60,000 digits', undef, '1e' . '9' x 60_000],
    ['fraction of 60,000 digits', undef, '5.' . '0' x 60_000 . '1'],
    ['4,000 users', undef, join ',"user_id":', (5) x 4_000],
    ['user of 60,000 minus signs', undef, '-' x 60_000],
    ['lone surrogates', '"' . '\ud800' x 10_000 . '"'],
    ['NULs', '"' . '\u0000' x 10_000 . '"'],
    ['string without end', '"' . 'x' x 60_000],
    ['escapes without end', '"' . '\\' x 60_001],
) {
    my ($name, $extra, $user) = @$case;
    $name = "T36: $name";
    $user //= 5;
    $extra //= 1;

    my $token = $api->session(user_id => 5);
    my $hits = $backend->hits;

    $api->fail(endpoint => $VALIDATION, body => '{"session":{"extra":'
        . "$extra,\"application_id\":92,\"token\":\"{{token}}\","
        . "\"user_id\":$user}}");

    my $from = time;
    my $res = $t->get('/x', token => $token);

    is $res->status . $res->body, 503 . $UNAVAILABLE, "$name: refused";
    cmp_ok time - $from, '<', 2, "$name: at once";
    is $backend->hits, $hits, "$name: nothing is let through";
    $api->heal;
    is seen($t->get('/x', token => $token)), '200 MISS 5',
        "$name: nothing is remembered";
}

is_deeply [$nginx->workers], \@workers, 'T36: the workers live';

$t->done;
