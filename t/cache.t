# What is remembered of the API's answers and for how long: sessions,
# rejections, and nothing else; and what a flood of random tokens does to it.

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

# Each with a back-off and a zone of its own.
my %applications = (
    chat => '',
    short => 'cache_valid 3s; cache_invalid 3s;',
    never => 'cache_invalid 0;',
    map { ("bad_$_" => '') } 0 .. 14,
);

my ($blocks, $locations) = ('', '');

for my $name (sort keys %applications) {
    $blocks .= <<"END";
quickblox_application $name {
    api %%API%%;
    application_id 92;
    zone $name 128k;
    timeout 1s;
    $applications{$name}
}
END
    $locations .= <<"END";
    location /$name/ {
        quickblox $name;
        proxy_pass %%BACKEND%%;
    }
END
}

$t->nginx(<<"END", workers => 2);
$blocks
quickblox_application beside {
    api %%API%%;
    application_id 93;
    zone chat;
}

# The flood has a small zone, and an API that knows nobody.
quickblox_application flooded {
    api %%API%%;
    application_id 92;
    zone small 64k;
    cache_invalid 1h;
}

quickblox_application flood {
    api http://127.0.0.1:%%PORT_1%%;
    application_id 92;
    zone small;
    cache_invalid 1h;
}

add_header X-Seen "\$quickblox_status|\$quickblox_user_id" always;
keepalive_requests 1000000;
access_log off;

server {
    listen 127.0.0.1:%%PORT_0%%;

$locations
    location /beside/ {
        quickblox beside;
        proxy_pass %%BACKEND%%;
    }
    location /flooded/ {
        quickblox flooded;
        proxy_pass %%BACKEND%%;
    }
    location /flood/ {
        quickblox flood;
        error_log /dev/null;
        proxy_pass %%BACKEND%%;
    }
}

server {
    listen 127.0.0.1:%%PORT_1%%;
    location / {
        default_type application/json;
        return 401 '{"errors":{"base":["Required session does not exist"]}}';
    }
}
END

my ($count, $bad, @waiting) = (0, 0);

sub token (%session) {
    return $api->session(user_id => 5, token => 'session-of-bob-' . ++$count,
        %session);
}

# Status, $quickblox_status and user.
sub seen ($path, $token, %opt) {
    my $res = $t->request(path => $path, token => $token, %opt);

    return join ' ', $res->status, $res->header('X-Seen') // '';
}

sub checks () { return $api->calls('GET /session.json') }

sub checks_of ($token) {
    return scalar grep { ($_->header('QB-Token') // '') eq $token }
        $api->requests('GET /session.json');
}


# T14: what is known of one token is known of no other

{
    my $one = token(token => 'A-token-of-many');
    my $before = checks();

    is seen('/chat/', $one), '200 MISS|5', 'T14: a token';
    is seen('/chat/', $one), '200 HIT|5', 'T14: is known';
    is seen('/beside/', $one), '403 REJECTED|',
        'T14: not to another application in the same zone';

    for my $other ('B-token-of-many', 'a-token-of-many', 'A-token-of-manY',
        'A-token-of-many1', 'A-token-of-man', '-token-of-many',
        'A-token-of-many=', 'A-token-of-many' x 50)
    {
        is seen('/chat/', $other), '401 REJECTED|', 'T14: '
            . substr($other, 0, 30) . ' is another';
    }

    is checks() - $before, 10, 'T14: one call for each';
    is seen('/chat/', $one), '200 HIT|5', 'T14: and it still is known';
}


# T15: only a session is remembered as one, only a certain end as such

my $dead = '{"errors":{"base":["Required session does not exist"]}}';
my @bad = (
    # the API's answer to a live token, the status for the client, and whether
    # it is the API's own affair, which all have to wait for
    [{status => 500}, 503, 1],
    [{status => 502, body => $dead}, 503, 1],
    [{status => 503, body => '<html>maintenance</html>'}, 503, 1],
    [{status => 504}, 503, 1],
    [{status => 429, body => '{}'}, 503, 1],
    [{reset => 'body'}, 503, 1],
    [{status => 200, body => '{"session":{}}'}, 503],
    [{status => 201}, 503],
    [{status => 403, body => $dead}, 503],
    [{status => 404, body => $dead}, 503],
    [{status => 422, body => '{"errors":{"base":["Bad timestamp"]}}'}, 503],
    [{status => 302, headers => [['Location', '/session.json']]}, 503],
    [{status => 401, body => '{"errors":["Unauthorized"]}'}, 401],
    [{status => 401, body => '<p>session does not exist</p>'}, 401],
    [{blackhole => 1}, 503, 1],
);

for (@bad) {
    my ($how, $status, $waits) = @$_;
    my ($path, $token) = ('/bad_' . $bad++ . '/', token());
    my $name = 'T15: the API: ' . join ', ', map { ref $how->{$_} ? $_
        : "$_ $how->{$_}" } sort keys %$how;

    $api->fail(endpoint => 'GET /session.json', token => $token, %$how);
    is seen($path, $token), $status == 503 ? '503 ERROR|' : '401 REJECTED|',
        $name;
    is $backend->hits($path), 0, 'not handed on';
    $api->heal;

    my $before = checks();

    if ($waits) {
        is seen($path, $token), '503 ERROR|', 'the back-off is no rejection';
        is checks(), $before, 'and makes no call';
        push @waiting, [$path, $token, $name];

    } else {
        is seen($path, $token), '200 MISS|5', 'it was not remembered';
        is checks() - $before, 1, 'so there was one more call';
    }
}

for (@waiting) {
    my ($path, $token, $name) = @$_;

    $t->wait_for(sub { seen($path, $token) eq '200 MISS|5' },
        "end of the back-off ($name)", 4);
    is seen($path, $token), '200 HIT|5', "$name: not remembered";
}


# How long it lasts.  First all is set up, then there is one wait for all.

{
    my @ends = map { token() } 'short', 'chat';
    my ($short, $long) = @ends;
    my $sooner = token(lifetime => 3);
    my $later = 'not-yet-a-session';

    is seen('/never/', 'never-a-session'), '401 REJECTED|',
        'T15: a rejection' for 1 .. 2;
    is checks_of('never-a-session'), 2,
        'T15: is asked for again with cache_invalid 0';
    is seen('/chat/', 'not-a-session'), '401 REJECTED|', 'T15: a long one';

    my $began = time;

    is seen('/short/', $later), '401 REJECTED|', 'T15: a short one';
    is seen('/short/', $short), '200 MISS|5', 'T17: a session';
    is seen('/chat/', $long), '200 MISS|5', 'T17: another';
    is seen('/chat/', $sooner), '200 MISS|5', 'T72: one of three seconds';

    token(token => $_) for 'not-a-session', $later;
    $api->expire($_) for @ends;

    # In both workers, whichever takes a connection.
    my @again = map { [seen('/short/', $later), seen('/short/', $short),
        seen('/chat/', $long), seen('/chat/', $sooner)] } 1 .. 8;

    # That took less than the shortest time for which they are remembered.
    cmp_ok time - $began, '<', 2, 'T17: all within two seconds';
    is_deeply \@again, [(['401 REJECTED|', ('200 HIT|5') x 3]) x 8],
        'T17: are remembered as they were';
    is checks_of($_), 1, 'T17: and were asked for once'
        for $later, $short, $long, $sooner;

    $t->wait_for(sub { seen('/short/', $short) eq '401 REJECTED|' },
        'end of the validation', 5);
    $t->wait_for(sub { seen('/short/', $later) =~ /^200/ },
        'end of the rejection', 5);
    cmp_ok time - $began, '<', 4, 'T17: until cache_valid, cache_invalid';
    is_deeply [map { seen('/short/', $short) } 1 .. 8],
        [('401 REJECTED|') x 8], 'T17: then they are gone in all workers';
    is checks_of($_), 2, 'T17: and were asked for again' for $short, $later;

    # One that is to end sooner than cache_valid is asked for then.
    $t->wait_for(sub { checks_of($sooner) == 2
        || seen('/chat/', $sooner) ne '200 HIT|5' }, 'end of the session', 5);
    is seen('/chat/', $sooner), '200 HIT|5', 'T72: and not refused';
    is checks_of($sooner), 2, 'T72: having been asked for once more';

    is seen('/chat/', $long), '200 HIT|5',
        'T17: the end of another is not known';
    is seen('/chat/', 'not-a-session'), '401 REJECTED|',
        'T15: nor a beginning, in longer times';

    # But the upstream's word ends it in all workers at once.
    $backend->check(tokens => []);
    is seen('/chat/', $long), '401 REJECTED|', 'T17: the backend knows';
    $backend->check(undef);
    is_deeply [map { seen('/chat/', $long) } 1 .. 8],
        [('401 REJECTED|') x 8], 'T17: and is believed at once';
    is checks_of($long), 2, 'T17: after one more call';
}


# T16: a flood of random tokens, where the zone is full of sessions

{
    my @good = map { token(token => "good-session-$_") } 1 .. 700;
    my $client = $t->client;
    my $known = sub ($token) {
        return $client->get('/flooded/', token => $token)->header('X-Seen')
            eq 'HIT|5';
    };

    $known->($_) for @good;

    # The later ones have thrown others out, which are left aside.
    cmp_ok scalar(grep { !$known->($_) } @good[0 .. 99]), '>', 0,
        'T16: more sessions than there is room for';
    @good = reverse @good[500 .. 699];
    @good = grep { $known->($_) } @good for 1 .. 2;
    cmp_ok scalar @good, '>=', 100, 'T16: the zone is full of them';
    $api->reset_calls;

    for my $thousand (1 .. 6) {
        my %status;

        $client->send(join '', map { "GET /flood/ HTTP/1.1\r\nHost: a\r\n"
            . "QB-Token: random-$thousand-$_\r\n\r\n" } 1 .. 1000);
        $status{$client->finish->status}++ for 1 .. 1000;
        is_deeply \%status, {401 => 1000}, "T16: $thousand,000 tokens";
    }

    is scalar(grep { !$known->($_) } @good), 0,
        'T16: all sessions are still known';
    is $api->calls, 0, 'T16: nothing was asked for them';

    my $new = token();
    is_deeply [map { seen('/flooded/', $new) } 1 .. 2],
        ['200 MISS|5', '200 HIT|5'], 'T16: a new one is known, too';
}

$t->done;
