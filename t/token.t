# The token of a client: where it is looked for, what is one, two of them in
# one request, and what the API may answer about it.

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

$t->nginx(<<'END');
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone quickblox 1m;
}

underscores_in_headers on;
large_client_header_buffers 4 16k;
add_header X-Seen "$quickblox_status|$quickblox_user_id" always;

server {
    listen 127.0.0.1:%%PORT_0%%;
    quickblox chat;

    location / {
        proxy_pass %%BACKEND%%;
    }
    location /session/ {
        quickblox_token $http_x_session;
        proxy_pass %%BACKEND%%;
    }
    location /authorization/ {
        quickblox_token $http_authorization;
        proxy_pass %%BACKEND%%;
    }
    location /authorization/user/ {
        quickblox_session client user;
        quickblox_token $http_authorization;
        proxy_pass %%BACKEND%%;
    }
    location /several/ {
        quickblox_token $http_authorization $http_qb_token $cookie_session
            $arg_token;
        proxy_pass %%BACKEND%%;
    }
    location /text/ {
        quickblox_token "Bearer $arg_token";
        proxy_pass %%BACKEND%%;
    }
    location /parts/ {
        quickblox_token "$arg_one.$arg_two";
        proxy_pass %%BACKEND%%;
    }
    location /constant/ {
        quickblox_token constant-token;
        proxy_pass %%BACKEND%%;
    }
    location /split/ {
        quickblox_token "token-of-two\r\nX-Forged: 1";
        proxy_pass %%BACKEND%%;
    }
    location /any/ {
        quickblox_require any;
        proxy_pass %%BACKEND%%;
    }
}

server {
    listen 127.0.0.1:%%PORT_1%% http2;
    quickblox chat;

    location / {
        proxy_pass %%BACKEND%%;
    }
}
END

my $DEAD = '{"errors":{"base":["Required session does not exist"]}}';
my $MISSING = '{"errors":["Token is required"]}';
my $AMBIGUOUS = '{"errors":{"base":["Two different tokens in one request"]}}';
my $FOREIGN
    = '{"errors":{"base":["Session belongs to another application"]}}';
my $NEED_USER = '{"errors":{"base":["Forbidden. Need user."]}}';
my $UNAVAILABLE
    = '{"errors":{"base":["Service is temporarily unavailable"]}}';

sub checks { return $api->calls('GET /session.json') }

# What the backend got: "401 ..." when nothing.
sub outcome ($res) {
    return $res->status . ' ' . $res->body if $res->status != 200;

    return join ' ', map { $_->[1] }
        grep { $_->[0] eq 'QB-Token' } @{$res->json->{headers}};
}


# T04: two tokens

my $count = 0;

sub tokens { return map { $api->session(user_id => 5,
    token => "token-$_-" . ++$count) } @_ }

my @two = (
    # header names and tokens; what comes of it
    [[['QB-Token', 'good'], ['QB-Token', 'bad']], 'two'],
    [[['QB-Token', 'bad'], ['QB-Token', 'good']], 'two'],
    [[['QB-Token', 'good'], ['QB-Token', 'other']], 'two'],
    [[['QB-Token', 'good'], ['qb-token', 'bad']], 'two'],
    [[['QB_Token', 'good'], ['QB-Token', 'bad']], 'two'],
    [[['qb-token', 'bad'], ['QB_TOKEN', 'good']], 'two'],
    [[['QB-Token', 'good'], ['QB-Token', '!']], 'two'],
    [[['QB-Token', '!'], ['QB-Token', 'good']], 'two'],
    [[['QB-Token', 'good'], ['X-Other', 1], ['QB-Token', 'bad'],
        ['QB-Token', 'good']], 'two'],
    [[['QB-Token', 'good'], ['QB-Token', 'good']], 'good'],
    [[['QB-Token', 'good'], ['QB_Token', 'good']], 'good'],
    [[['QB-Token', 'Bearer good'], ['QB-Token', 'good']], 'good'],
    [[['QB-Token', 'good'], ['QB-Token', '']], 'good'],
    [[['QB-Token', ''], ['QB-Token', 'good']], 'good'],
    [[['QB-Token', ''], ['QB-Token', '']], 'none'],
    [[['QB-Token', 'good, bad']], 'dead'],
    [[['QB-Token', 'good,good']], 'dead'],
    [[['X-Session', 'good'], ['X-Session', 'bad']], 'two', '/session/'],
    [[['x_session', 'bad'], ['X-Session', 'good']], 'two', '/session/'],
    [[['X-Session', 'good'], ['QB-Token', 'bad']], 'good', '/session/'],
    [[['QB-Token', 'bad'], ['X-Session', 'good']], 'good', '/session/'],
    [[['X-Session', 'good'], ['QB-Token', 'bad'], ['QB-Token', 'other']],
        'two', '/session/'],
    [[['QB-Token', 'good'], ['Cookie', 'session=bad']], 'good', '/several/'],
    [[['Authorization', 'Bearer good'], ['QB-Token', 'bad']], 'good',
        '/several/'],
    [[['Authorization', 'Bearer bad'], ['QB-Token', 'good']], 'dead',
        '/several/'],
);

for my $http (1, 2) {
    for my $case (@two) {
        my ($headers, $gets, $path) = @$case;

        # HTTP/2 here is for the list alone, which nginx fills differently.
        next if $http == 2 && $path;

        my ($good, $other) = tokens(qw(good other));
        my %token = (good => $good, other => $other, bad => "bad-$good");

        my @headers = map {
            my ($name, $value) = @$_;
            [$name, $value =~ s/\b(good|other|bad)\b/$token{$1}/gr]
        } @$headers;

        my $expected = {
            two => "400 $AMBIGUOUS",
            none => "401 $MISSING",
            dead => "401 $DEAD",
            good => $good,
        }->{$gets};

        my $name = "T04: HTTP/$http: "
            . join ' and ', map { "$_->[0] $_->[1]" } @$headers;
        my $before = checks();
        my $ask = $gets eq 'good' || "@{$headers->[0]}" =~ /bad$/ && !$path
            ? 1 : 0;

        for my $cache ('cold', 'warm') {
            my $res = $http == 1
                ? $t->get($path // '/', headers => \@headers)
                : $t->h2($path // '/', headers => \@headers,
                    port => $t->port(1));

            is outcome($res), $expected, "$name, $cache";
        }

        is checks() - $before,
            $gets eq 'good' || $gets eq 'dead' && $path ? 1 : 0,
            'one check of a token that was taken, none of others';

        is outcome($t->get('/', token => $token{bad})), "401 $DEAD",
            'and the bad one has gained nothing';
        is outcome($t->get('/', token => $other)), $other,
            'nor has the other lost anything';
    }
}


# T23: what cannot be a token is refused without a question

my $long = 'l' x 1016 . sprintf '%08d', $$;
my @possible = ('12345678', $long, 'a-._~+/=Z', '=======/', '-_-_-_-_',
    'eyJhbGciOiJIUzUxMiIs.eyJhY2Nlc3NfdHlwZSI6.c2lnbmF0dXJl',
    "Bearer\tbearer-0", 'bearer-1', 'Bearer=2');
my @impossible = ('1234567', "x$long", (map { "before${_}after" } ',', ';',
    ':', '%', '%0d%0aX-Forged:1', '\\', '"', "'", '!', '*', '@', '?', '#',
    '&', '<', '{', '$', '^', '`', '|', "\x01", "\x1b[0m", "\x7f", "\x80",
    "\xc3\xa9", "\xff"), '0before after', '"quoted-token"', '(before-after)',
    'Bearer 1234567', 'Bearer before,after', 'Bearer before after');

for my $value (@possible) {
    my $token = $value =~ s/^Bearer\s+//ir;
    $api->session(user_id => 5, token => $token);

    is outcome($t->get('/', token => $value)), $token,
        'T23: possible: ' . substr $value, 0, 50;
}

{
    my $before = checks();

    for my $value (@impossible) {
        my $name = substr($value, 0, 50)
            =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;

        # Live at the API, so that asking it would show.
        $api->session(user_id => 5, token => $value)
            if $value !~ /[^ -~]|^Bearer/;

        is outcome($t->get('/', token => $value)), "401 $DEAD",
            "T23: impossible: $name";
    }

    is checks(), $before, 'T23: the API was asked for none of them';
    is outcome($t->get('/split/')), "401 $DEAD",
        'T23: nor is a value with a line end ever sent';
    unlike $t->error_log, qr/quickblox.*(?:before|\e)/,
        'T23: and none is in the log';
    is $backend->hits('/split/'), 0, 'T23: nor at the backend';
}


# T60: schemes

my ($one, $two) = tokens(qw(one two));

my @schemes = (
    # Authorization, path; the token taken, or the gateway's, or none
    ["Bearer $one", '', $one],
    ["bearer $one", '', $one],
    ["BEARER $one", '', $one],
    ["Bearer  \t $one", '', $one],
    ["Bearer\t$one", '', $one],
    [$one, '', $one],
    ['Basic dXNlcjpwYXNz', '', "401 $MISSING"],
    ['basic dXNlcjpwYXNz', '', "401 $MISSING"],
    ['Digest username="bob"', '', "401 $MISSING"],
    ['ApiKey Canary-Api-Key-92', '', "401 $MISSING"],
    ["Bearers $one", '', "401 $MISSING"],
    ["Bear $one", '', "401 $MISSING"],
    ["AWS4-HMAC-SHA256 $one", '', "401 $MISSING"],
    ['Bearer', '', "401 $MISSING"],
    ['Bearer  ', '', "401 $MISSING"],
    ['', '', "401 $MISSING"],
    ["Bearer Bearer $one", '', "401 $DEAD"],
    ['Basic dXNlcjpwYXNz', 'user/', 'gateway'],
    ['Digest username="bob"', 'user/', 'gateway'],
    ['Bearer', 'user/', 'gateway'],
    ["Bearer $one", 'user/', $one],
    ['Bearer not-a-live-one', 'user/', "401 $DEAD"],
);

my $gateway = $t->get('/authorization/user/')->json->{token};
isnt $gateway, '', 'T60: the gateway\'s own token';

for my $case (@schemes) {
    my ($value, $path, $expected) = @$case;
    my $name = ($value =~ s/\Q$one/T/r) || 'empty';

    is outcome($t->get("/authorization/$path",
        headers => [['Authorization', $value]])),
        $expected eq 'gateway' ? $gateway : $expected,
        "T60: $name, sources: client $path";
}

is_deeply [map { $_->[1] } grep { $_->[0] eq 'Authorization' }
    @{$t->get('/authorization/', headers => [
        ['Authorization', "bearer  $one"]])->json->{headers}}],
    ["bearer  $one"], 'T60: the header itself passes as it was';


# quickblox_token: several values, text

# In a query they are in nginx's own logs.
($one, $two) = tokens(qw(one two));
$t->public($one, $two);

my @several = (
    # Authorization, QB-Token, cookie, argument; the token taken
    [undef, undef, undef, undef, "401 $MISSING"],
    [undef, undef, undef, $one, $one],
    [undef, undef, $two, $one, $two],
    [undef, $one, $two, undef, $one],
    ["Bearer $two", $one, undef, undef, $two],
    ['Basic dTpw', $one, undef, undef, $one],
    ['Basic dTpw', undef, undef, $two, $two],
    ['Bearer', '', '', $two, $two],
    [undef, 'Basic dTpw', $two, undef, $two],
    [undef, 'dead-token', $two, $one, "401 $DEAD"],
    [undef, 'short', $two, $one, "401 $DEAD"],
    [undef, undef, 'dead-token', $one, "401 $DEAD"],
    [undef, undef, undef, "Bearer%20$one", "401 $DEAD"],
);

for my $case (@several) {
    my ($authorization, $token, $cookie, $argument, $expected) = @$case;

    is outcome($t->get('/several/' . (defined $argument
        ? "?token=$argument" : ''), token => $token, headers => [
            defined $authorization ? ['Authorization', $authorization] : (),
            defined $cookie ? ['Cookie', "a=b; session=$cookie; c=d"] : (),
        ])), $expected, 'quickblox_token: ' . join ', ', map { !defined $_
            ? 'no' : length $_ ? s/\Q$one/one/r =~ s/\Q$two/two/r : 'empty' }
            @$case[0 .. 3];
}

is outcome($t->get("/text/?token=$one")), $one,
    'quickblox_token: text and a variable';
is outcome($t->get('/text/?token=')), "401 $MISSING",
    'quickblox_token: a scheme and an empty variable are no token';
$api->session(user_id => 5, token => 'part-one.part-two');
is outcome($t->get('/parts/?one=part-one&two=part-two')), 'part-one.part-two',
    'quickblox_token: of several variables';
is outcome($t->get('/parts/?one=part-one')), "401 $DEAD",
    'quickblox_token: some of them empty';
$api->session(user_id => 5, token => 'constant-token');
is outcome($t->get('/constant/', token => $one)), 'constant-token',
    'quickblox_token: of no variable';


# T05: whose session it is

{
    my $foreign = $api->session(application_id => 93, user_id => 5);
    my $before = checks();

    for my $use ('first', 'second') {
        is outcome($t->get('/', token => $foreign)), "403 $FOREIGN",
            "T05: a live token of another application, $use use";
    }

    is checks() - $before, 1, 'T05: which is remembered';

    my $app = $api->session;
    is outcome($t->get('/', token => $app)), "403 $NEED_USER",
        'T05: an application session where a user is needed';
    is outcome($t->get('/any/', token => $app)), $app,
        'T05: and where it is enough';
}

my @answers = (
    # application_id, user_id, the rest; what comes of it: a user id or why not
    ['92', '5', '', 5],
    ['"92"', '"5"', '', 5],
    ['92.0', '5.0', '', 5],
    ['9.2e1', '5e0', '', 5],
    ['92', '18446744073', '', 18446744073],
    ['93', '5', '', $FOREIGN],
    ['"93"', '5', '', $FOREIGN],
    ['0', '5', '', $FOREIGN],
    ['92', '0', '', $NEED_USER],
    ['92', '"0"', '', $NEED_USER],
    ['92', '0.0', '', $NEED_USER],
    (map { [$_, '5', '', $UNAVAILABLE], ['92', $_, '', $UNAVAILABLE] }
        undef, 'null', 'true', '""', '" 5"', '"5x"', '"0x5"', '"9.2"', '92.9',
        '-92', '1e999', '-1', '1e20', '[92]', '{"a":92}'),
    ['92', '5', ',"application_id":92', $UNAVAILABLE],
    ['92', '5', ',"application_id":93', $UNAVAILABLE],
    ['93', '5', ',"application_id":92', $UNAVAILABLE],
    ['93', '5', ',"application\u005fid":92', $UNAVAILABLE],
    ['92', '5', ',"user_id":6', $UNAVAILABLE],
    ['92', '0', ',"user_id":6', $UNAVAILABLE],
    ['92', '0', ',"us\u0065r_id":6', $UNAVAILABLE],
    ['93', '5', ',"Application_id":92', $FOREIGN],
    [undef, '5', ',"Application_Id":92', $UNAVAILABLE],
    ['92', undef, ',"USER_ID":5', $UNAVAILABLE],
    ['92', '0', ',"USER_ID":5', $NEED_USER],
    ['92', '5', ',"token":"{{token}}"', $UNAVAILABLE],
    ['92', '5', ',"user":{"user_id":6,"application_id":93}', 5],
);

my @wrong = (
    '{"session":{"application_id":92,"user_id":5,"token":"another-token"}}',
    '{"session":{"application_id":92,"user_id":5,"token":"{{token}}x"}}',
    '{"session":{"application_id":92,"user_id":5}}',
    '{"session":{"application_id":92,"user_id":5,"token":null}}',
    '{"session":{"application_id":92,"user_id":5,"Token":"{{token}}"}}',
    '{"session":{"application_id":92,"user_id":5,"token":["{{token}}"]}}',
    '{"application_id":92,"user_id":5,"token":"{{token}}"}',
    '{"Session":{"application_id":92,"user_id":5,"token":"{{token}}"}}',
    '{"session":[{"application_id":92,"user_id":5,"token":"{{token}}"}]}',
    '{"session":{"application_id":92,"user_id":5,"token":"{{token}}"},'
        . '"session":{"application_id":92,"user_id":6,"token":"{{token}}"}}',
    '{"session":null}',
    '{}',
    '[]',
    'null',
    '"{{token}}"',
);

push @answers, map { [undef, undef, $_, $UNAVAILABLE] } @wrong;

for my $case (@answers) {
    my ($application, $user, $more, $expected) = @$case;
    my ($token) = tokens('answer');

    my $body = $more =~ /^,|^$/ ? '{"session":{' . join(',',
        (defined $application ? "\"application_id\":$application" : ()),
        (defined $user ? "\"user_id\":$user" : ()),
        '"token":"{{token}}"') . "$more}}" : $more;

    $api->fail(endpoint => 'GET /session.json', token => $token,
        status => 200, body => $body, times => 1);

    my $before = checks();
    my $res = $t->get('/', token => $token);

    is $res->status == 200 ? ($res->header('X-Seen') =~ /(\d*)$/)[0]
        : $res->body, $expected, "T05: the API answers $body";
    is checks() - $before, 1, 'after one call';

    next if $expected ne $UNAVAILABLE;

    is $res->status, 503, 'with a 503';
    is outcome($t->get('/', token => $token)), $token,
        'and the next answer is heard at once';
}

$t->done;
