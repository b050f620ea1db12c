# Where a request's session comes from: the order of "quickblox_session", what
# is injected and what the variables say under each source, several
# applications in one nginx, the rights of a session, and nested locations.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Test::More;

my $t = Gateway->new;
my $api = $t->api(applications => ['93:authkey93:Canary-Secret-93:'
    . 'Canary-Api-Key-93'], args => ['--user', 'other:Canary-Other-Pw:11']);
my $backend = $t->backend;

my @sources = (
    'client', 'user', 'application', 'api_key', 'none', 'client user',
    'client application', 'client api_key', 'client none',
);

my $locations = join '', map { <<"END" } @sources;
    location /${\ s/ /_/r}/ {
        quickblox_session $_;
        proxy_pass %%BACKEND%%;
    }
END

my $seen = join '|', map { "\$quickblox_$_" } qw(user_id application_id
    session_type session_source status replayed error token);

$t->nginx(<<"END");
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    on_behalf_of \$arg_as;
    zone one 1m;
}

quickblox_application other {
    api %%API%%;
    application_id 93;
    auth_key authkey93;
    auth_secret Canary-Secret-93;
    login other;
    password Canary-Other-Pw;
    api_key Canary-Api-Key-93;
    zone two 1m;
}

# The application of "other" in the zone of "chat".
quickblox_application beside {
    api %%API%%;
    application_id 93;
    auth_key authkey93;
    auth_secret Canary-Secret-93;
    login other;
    password Canary-Other-Pw;
    zone one;
}

# Ids and tokens that are the same text when put together.
quickblox_application chatx {
    api %%API%%;
    application_id 921;
    zone one;
}

map \$quickblox_user_id \$allowed {
    5 1;
    6 0;
    7 '';
    default no;
}

map \$quickblox_session_type \$is_user {
    user 1;
}

# What a map that changes with the session is made of must be volatile.
map \$quickblox_user_id \$banned {
    volatile;
    6 0;
    default 1;
}

map \$banned \$blocked {
    0 0;
    default 1;
}

add_header X-Seen "$seen" always;
add_header X-Expires \$quickblox_expires always;

server {
    listen 127.0.0.1:%%PORT_0%%;
    quickblox chat;

$locations
    location /renamed/ {
        quickblox_session client user;
        quickblox_header X-Session;
        proxy_pass %%BACKEND%%;
    }
    location /unsent/ {
        quickblox_session client user;
        quickblox_header off;
        proxy_set_header X-Mine "token \$quickblox_token";
        proxy_pass %%BACKEND%%;
    }
    location /set/ {
        quickblox_session client user;
        proxy_set_header QB-Token \$quickblox_token;
        proxy_pass %%BACKEND%%;
    }

    location /other/ {
        quickblox other;
        proxy_pass %%BACKEND%%;
        location /other/user/ {
            quickblox_session user;
            proxy_pass %%BACKEND%%;
        }
        location /other/api_key/ {
            quickblox_session api_key;
            proxy_pass %%BACKEND%%;
        }
    }
    location /beside/ {
        quickblox beside;
        proxy_pass %%BACKEND%%;
        location /beside/user/ {
            quickblox_session user;
            proxy_pass %%BACKEND%%;
        }
    }
    location /chatx/ {
        quickblox chatx;
        proxy_pass %%BACKEND%%;
    }

    location /any/ {
        quickblox_require any;
        proxy_pass %%BACKEND%%;

        location /any/write/ {
            quickblox_application_access write;
            proxy_pass %%BACKEND%%;
            limit_except GET POST {
                deny all;
            }
        }
        location /any/user/ {
            quickblox_require user;
            proxy_pass %%BACKEND%%;
        }
        location /any/allowed/ {
            quickblox_require any \$allowed;
            proxy_pass %%BACKEND%%;
        }
    }
    location /allowed/ {
        quickblox_require user \$allowed;
        proxy_pass %%BACKEND%%;
    }
    location /both/ {
        quickblox_require any \$allowed \$is_user;
        proxy_pass %%BACKEND%%;
    }
    location /gateway/ {
        quickblox_session user;
        quickblox_require user \$allowed;
        proxy_pass %%BACKEND%%;
    }
    location /key/ {
        quickblox_session api_key;
        quickblox_require user \$allowed;
        proxy_pass %%BACKEND%%;
    }
    # The map is asked before there is a session, and again with it.
    location /early/ {
        quickblox_require user \$allowed;
        set \$early "\$allowed";
        proxy_set_header X-Early \$early;
        proxy_pass %%BACKEND%%;
    }
    # So is the one that another one is made of.
    location /chained/ {
        quickblox_require user \$blocked;
        set \$early "\$banned";
        proxy_pass %%BACKEND%%;
    }

    location /open/ {
        quickblox off;
        proxy_pass %%BACKEND%%;

        location /open/not/ {
            quickblox chat;
            proxy_pass %%BACKEND%%;
        }
    }
    location /if/ {
        set \$to %%BACKEND%%;
        if (\$arg_a) {
            set \$b 1;
        }
        proxy_pass \$to;
    }
}
END

my $bob = $api->session(user_id => 5);
my $alice = $api->session(user_id => 6);
my $carol = $api->session(user_id => 7);
my $app = $api->session;
my $foreign = $api->session(application_id => 93, user_id => 5);
my $dead = $api->session(user_id => 5);
$api->expire($dead);

my %refused = (
    none => [401, '{"errors":["Token is required"]}'],
    dead => [401, '{"errors":{"base":["Required session does not exist"]}}'],
    foreign => [403,
        '{"errors":{"base":["Session belongs to another application"]}}'],
    user => [403, '{"errors":{"base":["Forbidden. Need user."]}}'],
    forbidden => [403, '{"errors":{"base":["Forbidden"]}}'],
);

sub refused ($res, $why, $name) {
    is_deeply [$res->status, $res->body], $refused{$why}, $name;

    return;
}

# The credentials that the backend got, whatever they are called.
sub credentials ($res) {
    return [map { "$_->[0]: $_->[1]" } grep { $_->[0] =~
        /token|session|authorization|on-behalf-of|x-mine/i }
        @{$res->json ? $res->json->{headers} : []}];
}


# The first source that there are credentials for decides: what the request
# brings x the sources = what the backend gets, or why it gets nothing

my $user = $t->get('/user/')->json->{token};
my $application = $t->get('/application/')->json->{token};

isnt $user, $application, 'the user and the application have two sessions';
like "$user $application", qr/^[0-9a-f]{40} [0-9a-f]{40}$/, 'both real';

my %bring = (
    nothing => undef,
    user => $bob,
    application => $app,
    foreign => $foreign,
    dead => $dead,
    impossible => 'a,b',
    empty => '',
);

my @key = ('Authorization: ApiKey Canary-Api-Key-92', 'On-Behalf-Of: 7');
my $own = ["QB-Token: $bob"];

my %client = (user => $own, application => 'user', foreign => 'foreign',
    dead => 'dead', impossible => 'dead');

my %expected = (
    client => {%client, nothing => 'none', empty => 'none'},
    user => ["QB-Token: $user"],
    application => ["QB-Token: $application"],
    api_key => \@key,
    none => [],
    'client user' => {%client, map { $_ => ["QB-Token: $user"] }
        qw(nothing empty)},
    'client application' => {%client, map { $_ => ["QB-Token: $application"] }
        qw(nothing empty)},
    'client api_key' => {%client, map { $_ => \@key } qw(nothing empty)},
    'client none' => {%client, map { $_ => [] } qw(nothing empty)},
);

for my $sources (@sources) {
    for my $what (sort keys %bring) {
        my $expected = $expected{$sources};
        $expected = $expected->{$what} if ref $expected eq 'HASH';

        my $path = '/' . ($sources =~ s/ /_/r) . "/$what";
        my $res = $t->get("$path?as=7", token => $bring{$what});

        if (ref $expected) {
            is_deeply [$res->status, credentials($res)], [200, $expected],
                "$sources: $what";

        } else {
            refused($res, $expected, "$sources: $what is refused");
            is $backend->hits($path), 0, 'and never seen by the backend';
        }
    }
}

is $api->calls('POST /session.json'), 2, 'one login for each, for all of them';
is $api->calls('POST /users/{id}/tokens'), 0, 'and none with the key';


# Variables

my @variables = (
    # path, token, and user_id|application_id|session_type|session_source|
    # status|replayed|error|token
    ['/client/', $bob, "5|92|user|client|HIT|||$bob"],
    ['/any/', $app, "|92|application|client|HIT|||$app"],
    ['/client_user/', $bob, "5|92|user|client|HIT|||$bob"],
    ['/client_user/', undef, "1|92|user|user|HIT|||$user"],
    ['/user/', $bob, "1|92|user|user|HIT|||$user"],
    ['/application/', undef, "|92|application|application|HIT|||$application"],
    ['/api_key/?as=7', $bob, '7|92||api_key|HIT|||'],
    ['/other/api_key/', undef, '|93||api_key|HIT|||'],
    ['/none/', $bob, '||||OFF|||'],
    ['/client_none/', undef, '||||OFF|||'],
    ['/open/', $bob, '|||||||'],
    ['/client/', undef, '||||REJECTED||Token is required|'],
    ['/client/', $dead, '||||REJECTED||Required session does not exist|'],
    ['/client/', $foreign,
        '||||REJECTED||Session belongs to another application|'],
    ['/client/', $app, '||||REJECTED||Forbidden. Need user.|'],
    ['/api_key/?as=0', undef, '||||REJECTED||Forbidden|'],
    ['/client/', $api->session(user_id => 5, token => 'fresh-token'),
        '5|92|user|client|MISS|||fresh-token'],
);

for my $case (@variables) {
    my ($path, $token, $values) = @$case;
    my $res = $t->get($path, token => $token);

    is $res->header('X-Seen'), $values, "variables: $path: $values";

    # A session's two hours began when the test did.
    my $left = ($res->header('X-Expires') // 0) - time;
    ok $values =~ /client\|(?:HIT|MISS)|\|user\||application\|application/
        ? ($left > 7100 && $left <= 7200)
        : !defined $res->header('X-Expires'), '$quickblox_expires'
        or diag $left;
}


# quickblox_header

for my $case ([$bob, $bob], [undef, $user]) {
    my ($token, $injected) = @$case;
    my $who = $token ? 'the client' : 'the gateway';
    my @copies = (headers => [['X-Session', 'forged-session'],
        $token ? () : ['QB-Token', '']]);

    is_deeply credentials($t->get('/renamed/', token => $token, @copies)),
        ["X-Session: $injected"], "quickblox_header: another name, $who";
    is_deeply credentials($t->get('/unsent/', token => $token)),
        ["X-Mine: token $injected"], "quickblox_header: off, $who";
    is_deeply credentials($t->get('/set/', token => $token)),
        ["QB-Token: $injected"],
        "quickblox_header: proxy_set_header does not double it, $who";
}


# F34: applications beside each other

{
    refused($t->get('/other/a', token => $bob), 'foreign',
        'F34: valid in one application is foreign in another zone');
    refused($t->get('/beside/a', token => $bob), 'foreign',
        'F34: and in the same zone');

    is $t->get('/other/', token => $foreign)->status, 200,
        'F34: foreign in one application is valid in its own';
    is $t->get('/beside/', token => $foreign)->status, 200,
        'F34: and in the zone that remembers it as foreign';
    refused($t->get('/client/', token => $foreign), 'foreign',
        'F34: where it still is');
    is $t->get('/client/', token => $bob)->header('X-Seen'),
        "5|92|user|client|HIT|||$bob", 'F34: and the other is still known';

    my @held = map { $t->get($_)->json->{token} }
        (qw(/user/ /other/user/ /beside/user/)) x 2;

    my %held = map { $_ => 1 } @held;
    is scalar(keys %held), 3, 'F34: each application holds its own session';
    is $held[0], $user, 'F34: the first one as before';

    my @logins = map { $_->{body} =~ /application_id\W+(\d+)/ }
        $api->requests('POST /session.json');
    is_deeply \@logins, [92, 92, 93, 93], 'F34: one login for each';

    is_deeply credentials($t->get('/other/api_key/')),
        ['Authorization: ApiKey Canary-Api-Key-93'],
        'F34: and its own API key';

    # 92 and 1-token-of-eve, 921 and -token-of-eve
    $api->session(user_id => 5, token => '1-token-of-eve');
    is $t->get('/client/', token => '1-token-of-eve')->status, 200,
        'F34: a token of one application';
    refused($t->get('/chatx/', token => '-token-of-eve'), 'dead',
        'F34: is no other token of another one');

    # The back-off of one application is not that of another.
    $api->fail(endpoint => 'GET /session.json', token => 'trouble-92',
        status => 500);
    is $t->get('/client/', token => 'trouble-92')->status, 503,
        'F34: one application in trouble';
    is $t->get('/client/', token => $api->session(user_id => 5))->status, 503,
        'F34: waits';
    is $t->get('/beside/', token => $api->session(application_id => 93,
        user_id => 5))->status, 200, 'F34: its neighbour does not';
    $api->heal;
    $t->wait_for(sub {
        $t->get('/client/', token => $alice)->status == 200
    }, 'end of the back-off');
}


# quickblox_require, quickblox_application_access

my @rights = (
    # path, token, and what it gets: 200 or why not
    ['/client/', bob => 200],
    ['/client/', app => 'user'],
    ['/any/', bob => 200],
    ['/any/', app => 200],
    ['/any/user/', app => 'user'],
    ['/any/user/', bob => 200],
    ['/allowed/', bob => 200],
    ['/allowed/', alice => 'forbidden'],
    ['/allowed/', carol => 'forbidden'],
    ['/allowed/', app => 'user'],
    ['/any/allowed/', bob => 200],
    ['/any/allowed/', alice => 'forbidden'],
    ['/any/allowed/', app => 200],
    ['/both/', bob => 200],
    ['/both/', alice => 'forbidden'],
    ['/both/', app => 'forbidden'],
    ['/gateway/', none => 200],
    ['/key/?as=5', none => 200],
    ['/key/?as=6', none => 'forbidden'],
    ['/early/', bob => 200],
    ['/early/', alice => 'forbidden'],
    ['/chained/', bob => 200],
    ['/chained/', alice => 'forbidden'],
);
my %tokens = (bob => $bob, alice => $alice, carol => $carol, app => $app);

for my $case (@rights) {
    my ($path, $who, $gets) = @$case;
    my $res = $t->get($path, token => $tokens{$who});
    my $name = "quickblox_require: $path, $who";

    $gets eq '200' ? is($res->status, 200, $name)
        : refused($res, $gets, "$name is refused");
}

is_deeply [grep { $_->[0] eq 'X-Early' }
    @{$t->get('/early/', token => $bob)->json->{headers}}],
    [['X-Early', 'no']], 'quickblox_require: the map was asked before';

my @methods = qw(GET HEAD OPTIONS POST PUT PATCH DELETE);
my @access = (
    # path, token, the methods that pass
    ['/any/', $bob, @methods],
    ['/any/', $app, qw(GET HEAD OPTIONS)],
    ['/application/', undef, qw(GET HEAD OPTIONS)],
    ['/user/', undef, @methods],
    ['/client_none/', undef, @methods],
    ['/any/write/', $app, qw(GET HEAD POST)],
    ['/any/write/', $bob, qw(GET HEAD POST)],
);

for my $case (@access) {
    my ($path, $token, @pass) = @$case;

    is_deeply [grep { $t->request(method => $_, path => $path,
        token => $token)->status == 200 } @methods], \@pass,
        "quickblox_application_access: $path, "
            . (!$token ? 'nothing' : $token eq $bob ? 'a user'
                : 'an application') . ": @pass";
}

refused($t->post('/any/', 'x', token => $app), 'user',
    'quickblox_application_access: a write is refused as QuickBlox does');
refused($t->post('/application/', 'x'), 'user',
    'quickblox_application_access: the gateway\'s own too');


# Nested locations, "off", "if"

{
    my $res = $t->get('/open/', token => $dead, headers => [
        ['On-Behalf-Of', 3], ['Authorization', 'ApiKey 1']]);

    is_deeply credentials($res), ['On-Behalf-Of: 3',
        'Authorization: ApiKey 1', "QB-Token: $dead"],
        'off: nothing is checked, stripped or added';
    refused($t->get('/open/not/', token => $dead), 'dead',
        'off: a location inside it is protected again');
    refused($t->get('/nowhere', token => $dead), 'dead',
        'a location of the server is protected as the server is');
    refused($t->get("/if/$_", token => $dead), 'dead',
        "\"if\" does not end it ($_)") for 'a', '?a=1';
    is $t->get('/if/?a=1', token => $bob)->json->{token}, $bob,
        '"if" hands the session on';
}

$t->done;
