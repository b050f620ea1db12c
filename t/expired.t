# Which responses are expired ones, and which pass untouched; sessions that
# become suspect by responses that cannot be examined; and which dates of
# upstream responses move a session's expiry.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Digest::SHA qw(sha256_hex);
use Gateway;
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;

my @USERS = 0 .. 3;

my $api = $t->api(users => [
    map { ["gateway$_", "Canary-Gateway-Pw-$_", 100 + $_] } @USERS
]);
my $backend = $t->backend(keep_body => 1000);

my $applications = join "\n", map { <<"END" } @USERS;
quickblox_application app$_ {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway$_;
    password Canary-Gateway-Pw-$_;
    zone quickblox 1m;
}
END

$t->nginx($applications . <<'END');
proxy_max_temp_file_size 0;
client_max_body_size 4m;
add_header X-Seen "$quickblox_status|$quickblox_replayed|$quickblox_expires"
    always;

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;

    location /plain/ {
        proxy_pass %%BACKEND%%;
    }
    location /plain/unbuffered/ {
        proxy_buffering off;
        proxy_pass %%BACKEND%%;
    }

    location /client/ {
        quickblox app0;
        proxy_pass %%BACKEND%%;
    }
    location /client/unbuffered/ {
        quickblox app0;
        proxy_buffering off;
        proxy_pass %%BACKEND%%;
    }
    location /client/small/ {
        quickblox app0;
        quickblox_expired_buffer 64;
        proxy_pass %%BACKEND%%;
    }
    location /client/no-replay/ {
        quickblox app0;
        quickblox_replay off;
        proxy_pass %%BACKEND%%;
    }
    location /client/intercepted/ {
        quickblox app0;
        proxy_intercept_errors on;
        error_page 401 @page;
        proxy_pass %%BACKEND%%;
    }

    location /status/ {
        quickblox app0;
        quickblox_expired 401;
        proxy_pass %%BACKEND%%;
    }
    location /texts/ {
        quickblox app0;
        quickblox_expired 401 403 "is gone";
        proxy_pass %%BACKEND%%;

        location /texts/inherited/ {
            proxy_pass %%BACKEND%%;
        }
        location /texts/other/ {
            quickblox_expired 419 503;
            proxy_pass %%BACKEND%%;
        }
    }

    location /user/ {
        quickblox app1;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /user/stream/ {
        quickblox app1;
        quickblox_session user;
        proxy_request_buffering off;
        proxy_http_version 1.1;
        proxy_pass %%BACKEND%%;
    }
    location /user/intercepted/ {
        quickblox app1;
        quickblox_session user;
        proxy_intercept_errors on;
        error_page 401 @page;
        proxy_pass %%BACKEND%%;
    }
    location /user/no-replay/ {
        quickblox app1;
        quickblox_session user;
        quickblox_replay off;
        proxy_pass %%BACKEND%%;
    }
    location /user/status/ {
        quickblox app2;
        quickblox_session user;
        quickblox_expired 401;
        proxy_pass %%BACKEND%%;
    }
    location /user/dates/ {
        quickblox app3;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location @page {
        return 401 "a page";
    }
}
END

my $TEXT = 'Required session does not exist';
my $EXPIRED = qq({"errors":{"base":["$TEXT"]}});
my $JSON = [['Content-Type', 'application/json'], ['Set-Cookie', 'a=b'],
    ['X-Upstream', 'yes']];
my $LONG = join '', map { pack 'N', $_ * 2654435761 % 2 ** 32 } 1 .. 150_000;

my $number = 0;

sub logins { return $api->calls('POST /session.json') }

sub fields ($res) {
    return [sort map { lc($_->[0]) . ": $_->[1]" }
        grep { $_->[0] !~ /^(?:Server|Date|Connection|X-Seen)$/i }
            @{$res->pairs}];
}

sub seen ($res) { return ($res->header('X-Seen') // '') =~ s/\|\d*$//r }

my $MAPPED = [sort 'cache-control: no-store',
    'content-length: ' . length $EXPIRED, 'content-type: application/json',
    'www-authenticate: QuickBlox realm="app0"'];

# Our own 401, of which nothing is the upstream's.
sub mapped ($res, $name) {
    return is_deeply [$res->status, $res->body, fields($res), seen($res)],
        [401, $EXPIRED, $MAPPED, 'REJECTED|'], "$name: mapped";
}


# F25: split anywhere, the text is found.

for my $under ('/client/', '/client/unbuffered/') {
    my $token = $api->session(user_id => 100);
    my @paths = map { $under . 'split/' . $_ } 1 .. length($EXPIRED) - 1;

    $backend->answer($paths[$_], status => 401, headers => $JSON,
        body => $EXPIRED, split => [$_ + 1]) for keys @paths;

    my @clients = map { $t->start(path => $_, token => $token) } @paths;
    mapped($clients[$_]->finish, "F25: split at $_, $under")
        for keys @clients;

    $backend->heal;
}

# Each is asked for with a token of its own, once it is known to be good, and
# the backend says what it says.
sub asked ($path, $how, %opt) {
    my $token = $api->session(user_id => 100);

    $t->get('/client/', token => $token);
    $backend->answer($path, status => 401, headers => $JSON, %$how);

    my $res = delete $opt{h2}
        ? $t->h2($path, token => $token, %opt, port => $t->port(1))
        : $t->request(path => $path, token => $token, %opt);

    return ($res, $token);
}

my @found = (
    # the response; where
    ['the text alone', {body => $TEXT}],
    ['other case', {body => uc $EXPIRED}],
    ['a false start', {body => "Required session $TEXT", split => 'each'}],
    ['at the end of the buffer',
        {body => ' ' x (8192 - length $TEXT) . $TEXT}],
    ['at the end of the buffer, in pieces',
        {body => ' ' x (8192 - length $TEXT) . $TEXT, chunked => 1000,
            split => [100, 8100, 8191]}],
    ['in chunks', {body => $EXPIRED, chunked => 3}],
    ['up to the end of the connection', {body => $EXPIRED, no_length => 1}],
    ['encoding "identity"', {body => $EXPIRED,
        headers => [@$JSON, ['Content-Encoding', 'identity']]}],
    ['a small buffer, full', {body => $EXPIRED . ' ' x (64 - length $EXPIRED)},
        '/client/small/'],
    ['quickblox_replay off', {body => $EXPIRED}, '/client/no-replay/'],
    ['over HTTP/2', {body => $EXPIRED}, '/client/', h2 => 1],
    ['over HTTP/1.0', {body => $EXPIRED}, '/client/', version => '1.0'],

    ['status alone', {body => 'no'}, '/status/'],
    ['status alone, no body', {body => ''}, '/status/'],
    ['status alone, gzip', {body => 'no', gzip => 1}, '/status/'],
    ['status alone, 10 MB', {huge => 10 << 20}, '/status/'],
    ['another text', {body => 'It IS GONE.'}, '/texts/'],
    ['another status', {status => 403, body => 'is gone'}, '/texts/'],
    ['inherited', {status => 403, body => 'is gone'}, '/texts/inherited/'],
    ['not inherited', {status => 419, body => 'x'}, '/texts/other/'],
    ['the last one of them', {status => 503, body => ''}, '/texts/other/'],
);

for (@found) {
    my ($name, $how, $under, %opt) = @$_;
    my $path = ($under // '/client/') . ++$number;
    my ($res, $token) = asked($path, $how, %opt);

    mapped($res, "F25: $name");
    is $backend->hits($path), 1, "F25: $name: asked for once";

    $api->reset_calls;
    is $t->get('/client/', token => $token)->status, 200,
        "F25: $name: the token is good, the API says";
    is_deeply $api->counts, {'GET /session.json' => 1},
        "F25: $name: which is asked";

    $backend->heal;
}

# To HEAD there is no body, neither from the upstream nor from us.
{
    my ($res) = asked('/status/head', {body => ''}, method => 'HEAD');
    is_deeply [$res->status, $res->body, fields($res)], [401, '', $MAPPED],
        'status alone: HEAD is mapped';
}


# F25: anything else passes, as it does without the module.

my @passed = (
    ['nothing', {body => ''}],
    ['one byte', {body => '{'}],
    ['no text', {body => $EXPIRED =~ s/exist/exit/r}],
    ['no text, in single bytes', {body => $EXPIRED =~ s/exist/exis/r,
        split => 'each'}],
    ['no text, in chunks', {body => "Required session\0does not exist" x 9,
        chunked => 11}],
    ['no text, up to the end', {body => 'x' x 100, no_length => 1}],
    ['a full buffer', {body => 'x' x 8192}],
    ['more than a buffer', {body => 'x' x 8193}],
    ['more than a buffer, in pieces', {body => 'x' x 8193,
        split => [1, 8191, 8192]}],
    ['text, and one byte too many', {body => $TEXT
        . ' ' x (8193 - length $TEXT)}],
    ['text, and one chunk too many', {body => $TEXT . ' ' x 8192,
        chunked => 4096}],
    ['a small buffer', {body => $EXPIRED . ' ' x (65 - length $EXPIRED)},
        'small/'],
    ['600 KB', {body => $LONG}],
    ['600 KB in chunks', {body => $LONG, chunked => 50_000}],
    ['600 KB with text', {body => $EXPIRED . $LONG}],
    ['10 MB', {huge => 10 << 20}],
    ['text in the head', {body => '{}', headers => [['X-Error', $TEXT]]}],
    ['text of a trailer', {body => '{}', chunked => 10,
        trailers => [['X-Error', $TEXT]]}],
    ['a Basic challenge', {body => '<p>', headers => [
        ['WWW-Authenticate', 'Basic realm="x"'],
        ['Content-Type', 'text/html']]}],
    ['403 with text', {status => 403, body => $EXPIRED}],
    ['200 with text', {status => 200, body => $EXPIRED}],
    ['default text where there is another', {body => $EXPIRED}, '/texts/'],
    ['another status where there are others', {status => 404,
        body => 'is gone'}, '/texts/'],
    ['401 where there are others', {body => 'is gone'}, '/texts/other/'],
    ['402 by status alone', {status => 402, body => $EXPIRED}, '/status/'],
);

for my $how (['', ''], ['unbuffered/', 'unbuffered, '], ['', 'HTTP/2, ', 1]) {
    my ($kind, $said, $h2) = @$how;

    for (@passed) {
        my ($name, $answer, $where) = @$_;
        next if $where && length $kind;

        my $path = ($where // '') =~ m{^/} ? $where
            : '/client/' . ($where // $kind);
        $path .= ++$number;
        my $plain = "/plain/$kind$number";

        $backend->answer($plain, status => 401, headers => $JSON, %$answer);

        my ($res, $token) = asked($path, $answer, h2 => $h2);
        my $as = $h2 ? $t->h2($plain, port => $t->port(1)) : $t->get($plain);

        is_deeply [$res->status, fields($res), $res->complete],
            [$as->status, fields($as), 1], "F25: $said$name: passes";
        ok $res->body eq $as->body && length $as->body
            == ($answer->{huge} // length $answer->{body}),
            "F25: $said$name: its body, too";

        $api->reset_calls;
        my $next = $t->get('/client/', token => $token);
        is_deeply [seen($next), $api->calls, $backend->hits($path)],
            ['HIT|', 0, 1], "F25: $said$name: nothing comes of it";

        $backend->heal;
    }
}


# What cannot be examined passes, and makes the session suspect: its next use
# asks the API first.

my @unseen = (
    # what the request is like, and the response
    ['HEAD', {method => 'HEAD'}, {body => ''}],
    ['gzip', {}, {body => $EXPIRED, gzip => 1}],
    ['an encoding', {}, {body => $EXPIRED,
        headers => [['Content-Encoding', 'br']]}],
    ['proxy_intercept_errors', {}, {body => $EXPIRED}, 'intercepted/'],
    ['quickblox_replay off', {}, {body => $EXPIRED}, 'no-replay/', 'user'],
    ['quickblox_replay off, POST', {body => 'x'}, {body => $EXPIRED},
        'no-replay/', 'user'],
);

for my $source (qw(client user)) {
    for my $lives (1, 0) {
        for (@unseen) {
            my ($name, $opt, $how, $under, $only) = @$_;
            next if $only && $only ne $source;

            my $path = "/$source/" . ($under // '') . ++$number;
            my $what = "$source, $name, " . ($lives ? 'live' : 'dead');
            my %token = $source eq 'client'
                ? (token => $api->session(user_id => 100)) : ();

            my $warm = $t->get("/$source/", %token);
            $backend->answer($path, status => 401, headers => $JSON, %$how);
            $api->expire($warm->json->{token}) if !$lives;
            $api->reset_calls;

            my $res = $t->request(path => $path, %token, %$opt);
            my $plain = '/plain/' . $number;
            $backend->answer($plain, status => 401, headers => $JSON, %$how);
            my $as = $t->request(path => $plain, %$opt);

            if (($under // '') eq 'intercepted/') {
                is_deeply [$res->status, $res->body], [401, 'a page'],
                    "suspect: $what: the error page";

            } else {
                is_deeply [$res->status, $res->body, fields($res)],
                    [401, $as->body, fields($as)],
                    "suspect: $what: the 401 passes";
            }

            is_deeply [$backend->hits($path), $api->calls], [1, 0],
                "suspect: $what: nothing more, for now";

            # Many at once ask once.
            my @clients = map { $t->start(path => "/$source/", %token) }
                1 .. 5;
            my @next = map { $_->finish } @clients;
            my $status = $lives || $source eq 'user' ? 200 : 401;

            is_deeply [map { $_->status } @next], [($status) x 5],
                "suspect: $what: the next ones";
            is_deeply $api->counts, {'GET /session.json' => 1,
                $lives || $source eq 'client' ? ()
                    : ('POST /session.json' => 1)},
                "suspect: $what: the API is asked, once";

            my $token = $warm->json->{token};
            is_deeply [grep { ($_->json->{token} eq $token) != $lives } @next],
                [], "suspect: $what: and believed" if $status == 200;

            $backend->heal;
        }
    }
}

# T19, F32: a body that went by cannot be sent again.
for my $chunked (0, 1) {
    my $body = 'b' x 300_000;
    my $path = '/user/stream/' . ++$number;
    my $name = $chunked ? 'in chunks' : 'with a length';

    my $old = $t->get('/user/')->json->{token};
    $api->expire($old);
    $api->reset_calls;
    $backend->answer($path, status => 401, headers => $JSON,
        body => $EXPIRED, times => 1);

    # The upstream has its head before the client has sent all of it.
    my $client = $t->client;
    my $bytes = $client->format(method => 'POST', path => $path,
        body => $body, $chunked ? (chunked => 30_000) : ());
    my $connections = $backend->connections->{accepted};

    $client->{head} = 0;
    $client->send(substr $bytes, 0, 100_000, '');
    $t->wait_for(sub { $backend->connections->{accepted} > $connections },
        'upstream connection');
    my $res = $client->send($bytes)->finish;

    is_deeply [$res->status, $res->body, scalar $res->header('X-Upstream')],
        [401, $EXPIRED, 'yes'], "T19: unbuffered $name: the 401 passes";
    is_deeply [map { $_->{body_sha256} } $backend->requests($path)],
        [sha256_hex($body)], "T19: unbuffered $name: sent once, and whole";
    is $api->calls, 0, "T19: unbuffered $name: no login for it";

    isnt $t->get('/user/')->json->{token}, $old,
        "F32: unbuffered $name: the next one has a new session";
    is_deeply $api->counts, {'GET /session.json' => 1,
        'POST /session.json' => 1}, "F32: unbuffered $name: of one login";

    $backend->heal;
}

# F32: a body that is too large is refused before anybody is asked.
{
    my $token = $api->session(user_id => 100);
    $api->reset_calls;
    $backend->reset;

    my @large = (
        ['/client/large', [['Content-Length', 5 << 20]]],
        ['/user/stream/large', [['Content-Length', 5 << 20]]],
        ['/client/large', [['Content-Length', 5 << 20],
            ['Expect', '100-continue']]],
    );

    for (@large) {
        my ($path, $headers) = @$_;
        my $res = $t->request(method => 'POST', path => $path,
            headers => $headers, token => $token);
        is $res->status, 413, "F32: $path: too large";
        is_deeply $res->interim, [], "F32: $path: not even begun";
    }

    is_deeply [$api->calls, $backend->hits], [0, 0],
        'F32: nobody is asked about it';

    is $t->post('/client/large', 'x' x (5 << 20), token => $token,
        chunked => 65_536)->status, 413, 'F32: too large in the end';
    is $backend->hits, 0, 'F32: of which nothing is sent';
}

# The status alone, of a session that the gateway holds.
{
    my $path = '/user/status/a';

    $t->get('/user/status/');
    $api->expire_all;
    $api->reset_calls;
    $backend->answer($path, status => 401, gzip => 1, body => 'no',
        times => 1);

    my $res = $t->post($path, 'x');
    is_deeply [$res->status, seen($res), $res->json->{body_length}],
        [200, 'MISS|1', 1], 'status alone: replayed';
    is_deeply [$backend->hits($path), logins()], [2, 1],
        'status alone: after one login';

    $backend->answer($path, status => 401, body => 'no', times => 1);
    $res = $t->request(method => 'HEAD', path => $path);
    is_deeply [$res->status, seen($res)], [200, 'MISS|1'],
        'status alone: HEAD is replayed';

    $backend->answer($path, status => 401, body => 'no');
    $res = $t->get($path);
    is_deeply [$res->status, $res->body, seen($res), $backend->hits($path)],
        [401, 'no', 'MISS|1', 6], 'status alone: once';
    $backend->heal;
}


# T57: dates

sub date ($in, $end = 'UTC') {
    return strftime('%Y-%m-%d %H:%M:%S ', gmtime time + $in) . $end;
}

my $NAME = 'QB-Token-ExpirationDate';

my @dates = (
    # the values; whether they count; the status
    [[date(1000)], 1],
    [[date(1000, '+0000')], 1],
    [[date(10_000)], 1],
    [[date(10_500, '+0000')], 1],
    [[' ' . date(1500) . ' '], 1],
    [[date(1000)], 1, 201],
    [[date(1000)], 1, 204],
    [[date(1000)], 1, 206],

    [[date(-10)], 0],
    [[date(-10, '+0000')], 0],
    [[date(11_000)], 0],
    [[date(86_400 * 365)], 0],
    [['2038-01-19 03:14:08 UTC'], 0],
    [['9999-12-31 23:59:59 UTC'], 0],
    [[''], 0],
    [['never'], 0],
    [[int(time) + 1000], 0],
    [[date(1000, 'GMT')], 0],
    [[date(1000, 'utc')], 0],
    [[date(1000, '+0100')], 0],
    [[date(1000, '-0000')], 0],
    [[date(1000, '')], 0],
    [[date(1000, 'UTC') . ', ' . date(2000)], 0],
    [[date(1000) =~ s/ /T/r], 0],
    [[strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime time + 1000)], 0],
    [[strftime('%Y-%m-%dT%H:%M:%SZ', gmtime time + 1000)], 0],
    [[date(1000) =~ s/-\d\d /-32 /r], 0],
    [[date(1000) =~ s/-\d\d-/-13-/r], 0],
    [[date(1000) =~ s/:\d\d /:60 /r], 0],
    [[date(1000), date(2000)], 0],
    [[date(1000), date(1000)], 0],
    [[date(1000), 'never'], 0],
    (map { [[date(1000)], 0, $_] } 302, 304, 400, 401, 403, 404, 422, 500,
        503),
);

for my $source (qw(client user)) {
    for (@dates) {
        my ($values, $counts, $status) = @$_;
        my $path = $source eq 'user' ? '/user/dates/' : '/client/';
        my %token = $source eq 'client'
            ? (token => $api->session(user_id => 100)) : ();
        my $expires = sub {
            ($t->get($path, %token)->header('X-Seen') =~ /\|(\d+)$/)[0];
        };

        # A second that ends meanwhile is of no matter: a known one is set.
        my $at = date(6000);
        $backend->answer("${path}set", headers => [[$NAME, $at]]);
        $t->get("${path}set", %token);
        my $set = $expires->();

        $backend->answer("${path}date", status => $status // 200,
            headers => [map { [$NAME, $_] } @$values]);
        $t->get("${path}date", %token);

        my $after = $expires->();
        my $said = strftime '%Y-%m-%d %H:%M:%S', gmtime $after;
        my ($expected) = ($counts ? $values->[0] : $at) =~ /(\S+ \S+)/;

        is $said, $expected, sprintf 'T57: %s, %s, %s: %s', $source,
            join(' and ', @$values), $status // 200,
            $counts ? 'counts' : 'does not count';

        $backend->heal;
    }
}

# The date of an answer to the session before moves nothing.
{
    my $get = sub ($path) { $t->get("/user/dates/$path") };
    my $expires = sub { ($get->('')->header('X-Seen') =~ /\|(\d+)$/)[0] };

    $get->('');
    $backend->answer('/user/dates/late', hold => 1,
        headers => [[$NAME, date(3000)]]);
    my $late = $t->start(path => '/user/dates/late');
    $backend->wait_held(1);

    $api->expire_all;
    $backend->answer('/user/dates/dead', status => 401, body => $EXPIRED,
        times => 1);
    is seen($get->('dead')), 'MISS|1', 'T57: another session, meanwhile';

    my $set = $expires->();
    $backend->release;
    is $late->finish->status, 200, 'T57: the late answer';
    is $expires->(), $set, 'T57: tells of its own session alone';
}

$t->done;
