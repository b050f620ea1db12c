# T09, T42: "satisfy" with this module and each other access module of nginx.
# What nginx itself does with "auth_basic" in the place of ours is the oracle.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(encode_base64);
use Test::More;

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

my $users = $t->write('users', "alice:{PLAIN}Canary-Companion\n");
my $oracle_users = $t->write('oracle', "good:{PLAIN}Canary-Oracle-Pw\n");
my $closed = $t->closed_port;

# What stands beside us in the location.
my %companion = (
    none => '',
    allow => 'allow all;',
    deny => 'deny all;',
    basic => qq(auth_basic companion; auth_basic_user_file $users;),
    204 => 'auth_request /auth/204;',
    401 => 'auth_request /auth/401;',
    403 => 'auth_request /auth/403;',
    500 => 'auth_request /auth/500;',
);

# What is under test, and in its place the two that nginx has.
my %ours = (
    quickblox => 'quickblox chat;',
    down => 'quickblox down;',
    oracle => qq(auth_basic oracle; auth_basic_user_file $oracle_users;),
    oracle_request => 'auth_request /oracle;',
);

my $locations = '';

for my $satisfy (qw(all any)) {
    for my $companion (sort keys %companion) {
        for my $ours (sort keys %ours) {
            next if $ours eq 'oracle' && $companion eq 'basic';
            next if $ours eq 'oracle_request' && $companion ne 'basic';
            $locations .= <<"END_OF_LOCATION";
    location = /$satisfy/$companion/$ours {
        satisfy $satisfy;
        $companion{$companion}
        $ours{$ours}
        proxy_pass %%BACKEND%%;
    }
END_OF_LOCATION
        }
    }
}

my $variables = join '|', map { "\$quickblox_$_" }
    qw(token user_id application_id session_type session_source expires
        status replayed error);

my $application = <<'END_OF_CONFIGURATION';
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
END_OF_CONFIGURATION

$t->nginx(<<"END_OF_CONFIGURATION");
quickblox_application chat {
    api %%API%%;
    $application
    zone quickblox 1m;
}

quickblox_application down {
    api http://127.0.0.1:$closed;
    $application
    zone quickblox;
}

server {
    listen 127.0.0.1:%%PORT_0%%;

    location = /auth/204 {
        return 204;
    }
    location = /auth/401 {
        proxy_pass %%BACKEND%%;
    }
    location = /auth/403 {
        return 403;
    }
    location = /auth/500 {
        return 500;
    }
    location = /oracle {
        proxy_pass %%BACKEND%%;
    }

$locations

    location /t42/ {
        satisfy any;
        allow all;
        deny all;
        quickblox chat;
        proxy_set_header X-Seen "$variables";
        proxy_pass %%BACKEND%%;

        location /t42/user {
            quickblox_session user;
            proxy_pass %%BACKEND%%;
        }
        location /t42/basic {
            allow 192.0.2.1;
            deny all;
            auth_basic companion;
            auth_basic_user_file $users;
            proxy_pass %%BACKEND%%;
        }
        location /t42/request {
            allow 192.0.2.1;
            deny all;
            auth_request /auth/204;
            proxy_pass %%BACKEND%%;
        }
        location /t42/header {
            quickblox_header X-Session;
            proxy_pass %%BACKEND%%;
        }
    }

    # granted a session there, redirected to where another module grants
    location /t42-from/ {
        quickblox chat;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }

    # first we grant, at the second time round auth_request does
    location /t42-again {
        satisfy any;
        auth_request /auth/once;
        quickblox chat;
        quickblox_session user;
        proxy_set_header X-Seen "$variables";
        proxy_pass %%BACKEND%%;
    }
    location = /auth/once {
        proxy_pass %%BACKEND%%;
    }

    location /none/ {
        satisfy any;
        deny all;
        quickblox chat;
        quickblox_session client none;
        proxy_pass %%BACKEND%%;
    }
    location /page/ {
        satisfy any;
        deny all;
        quickblox chat;
        error_page 401 = /page-401;
        proxy_pass %%BACKEND%%;
    }
    location /page-401 {
        return 200 page;
    }
    location /cleared {
        quickblox chat;
        error_page 401 = /any/allow/quickblox;
        proxy_pass %%BACKEND%%;
    }
}
END_OF_CONFIGURATION

my $token = $api->session(user_id => 5);
my $guest = $api->session;
my $basic = encode_base64('alice:Canary-Companion', '');

# What auth_request asks; the last that fits is the answer.
$backend->answer('/auth/401', status => 401,
    headers => [['WWW-Authenticate', 'Request realm="companion"']]);
$backend->answer('/oracle', status => 401,
    headers => [['WWW-Authenticate', 'Oracle realm="oracle"']]);
$backend->answer('/oracle', token => $token, status => 204, body => '');

# T09.  Header fields that make us, and each oracle, grant or refuse.
my %credential = (
    good => [['QB-Token', $token]],
    bad => [['QB-Token', 'f00d' x 10]],
    none => [],
);
my %oracle_basic = (
    good => [['Authorization', 'Basic '
        . encode_base64('good:Canary-Oracle-Pw', '')]],
    bad => [['Authorization', 'Basic ' . encode_base64('good:no', '')]],
    none => [],
);

# A status, "+" where our challenge is to be found with it.  Two things are
# not the oracle's: ours runs last, and auth_request runs after auth_basic.
my @rows = (
    #           companion  good   bad     none
    ['all', 'none',        200,   '401+', '401+'],
    ['all', 'allow',       200,   '401+', '401+'],
    ['all', 'deny',        403,   403,    403],
    ['all', 'basic good',  200,   '401+', '401+'],
    ['all', 'basic bad',   401,   401,    401],
    ['all', 'basic none',  401,   401,    401],
    ['all', '204',         200,   '401+', '401+'],
    ['all', '401',         401,   401,    401,    'ours runs last'],
    ['all', '403',         403,   403,    403,    'ours runs last'],
    ['all', '500',         500,   500,    500,    'ours runs last'],
    ['any', 'none',        200,   '401+', '401+'],
    ['any', 'allow',       200,   200,    200],
    ['any', 'deny',        200,   '401+', '401+'],
    ['any', 'basic good',  200,   200,    200],
    ['any', 'basic bad',   200,   '401+', '401+'],
    ['any', 'basic none',  200,   '401+', '401+'],
    ['any', '204',         200,   200,    200],
    ['any', '401',         200,   '401+', '401+'],
    ['any', '403',         200,   '401+', '401+'],
    ['any', '500',         500,   500,    500,    'ours runs last'],
);

my %companion_basic = (
    good => [['Authorization', "Basic $basic"]],
    bad => [['Authorization', 'Basic ' . encode_base64('alice:no', '')]],
    none => [],
);

# A status, and "+" where the challenge is there, once; its hits.
sub outcome ($path, $headers, $challenge) {
    my $before = $backend->hits($path);
    my $res = $t->get($path, headers => $headers);
    my $challenges = grep { /$challenge/ } $res->headers('WWW-Authenticate');

    is $backend->hits($path) - $before, $res->status == 200 ? 1 : 0,
        "T12: $path: hits";

    return $res->status . '+' x $challenges;
}

for my $row (@rows) {
    my ($satisfy, $beside, @expected) = @$row;
    my ($companion, $login) = split ' ', $beside;
    my $order = $expected[3];

    for my $credential (qw(good bad none)) {
        my $expected = shift @expected;
        my $name = "satisfy $satisfy, $beside, $credential credential";
        my @headers = (@{$credential{$credential}},
            $login ? @{$companion_basic{$login}} : ());

        is outcome("/$satisfy/$companion/quickblox", \@headers,
            qr/^QuickBlox realm="chat"$/), $expected, "T09: $name";

        next if $order;

        my ($oracle, $with) = $companion eq 'basic'
            ? ('oracle_request', \@headers)
            : ('oracle', $oracle_basic{$credential});

        # auth_request hands a challenge on, but comes first of all.
        my $challenge = $companion eq 'basic'
            ? qr/^Oracle/ : qr/^Basic realm="oracle"/;
        my $told = outcome("/$satisfy/$companion/$oracle", $with,
            $challenge);

        is $told, $expected, "T09: $name: the same of nginx's own";
    }
}

# A 503 of ours is no vote: neither soft under "any" nor hidden by another.
for my $case (
    ['all', 'none', 503], ['all', 'allow', 503], ['all', 'deny', 403],
    ['all', '204', 503], ['all', '403', 403],
    ['any', 'none', 503], ['any', 'allow', 200], ['any', 'deny', 503],
    ['any', '204', 200], ['any', '401', 503], ['any', '403', 503],
) {
    my ($satisfy, $companion, $expected) = @$case;
    my $path = "/$satisfy/$companion/down";
    my $res = $t->get($path, token => $token);

    is $res->status, $expected,
        "T09: satisfy $satisfy, $companion, the API is down";
    is $backend->hits($path), $expected == 200 ? 1 : 0, 'T12: hits';
    is $res->body,
        '{"errors":{"base":["Service is temporarily unavailable"]}}',
        'with our own body' if $expected == 503;
}

# Two tokens end it, too; a 403 of ours is as soft as any.
{
    my @two = (['QB-Token', $token], ['QB-Token', 'f00d' x 10]);
    my @guest = (['QB-Token', $guest]);

    is $t->get('/any/deny/quickblox', headers => \@two)->status, 400,
        'T04: two tokens under "any"';
    is $t->get('/any/deny/quickblox', headers => \@guest)->status, 403,
        'T09: a 403 under "any" beside "deny"';
    is $t->get('/any/basic/quickblox', headers => [@guest])->status, 401,
        'T09: a 403 under "any" beside a 401';
    is $t->get('/any/401/quickblox', headers => \@guest)->status, 401,
        'T09: a 403 under "any" beside a 401 of auth_request';
    is $t->get('/any/basic/quickblox', headers => [@guest,
        ['Authorization', "Basic $basic"]])->status, 200,
        'T09: a 403 of ours beside a login';
}

# Under "any" nginx answers in its own way, and clears what was not needed.
{
    my $res = $t->get('/any/401/quickblox');

    is join(' | ', sort $res->headers('WWW-Authenticate')),
        'QuickBlox realm="chat" | Request realm="companion"',
        'both challenges';
    like $res->body, qr/<title>401 Authorization Required/, 'the page';

    $res = $t->get('/any/401/quickblox', token => $token);
    is scalar(my @none = $res->headers('WWW-Authenticate')), 0,
        'a grant of ours clears the challenge of auth_request';

    $res = $t->get('/any/basic/quickblox', token => $token);
    is scalar(@none = $res->headers('WWW-Authenticate')), 0,
        'and that of auth_basic';

    is $t->get('/page/x')->body, 'page', 'error_page under "any"';

    $res = $t->get('/cleared');
    is $res->status, 200, 'error_page into a location that lets in';
    is scalar(@none = $res->headers('WWW-Authenticate')), 0,
        'a grant of another clears a challenge of ours';
}

is $t->get('/none/x')->status, 200, '"none" grants under "any"';


# T42: another module has granted first

# Header fields that the backend got, but for those of the connection.
sub seen ($path) {
    return join "\n", map { "$_->[0]: $_->[1]" }
        grep { $_->[0] !~ /^(?:Host|Connection)$/ }
        @{$backend->last_request($path)->{headers}};
}

my @spoofed = (['X-First', 1], ['QB-Token', $token], ['qb-token', $token],
    ['On-Behalf-Of', 7], ['Authorization', 'ApiKey Canary-Api-Key-92'],
    ['X-Last', 2]);

for my $case (
    ['/t42/a', \@spoofed],
    ['/t42/user', \@spoofed],
    ['/t42/basic', [map { $_->[0] eq 'Authorization'
        ? [$_->[0], "Basic $basic"] : $_ } @spoofed],
        "Authorization: Basic $basic"],
    ['/t42/request', \@spoofed],
    ['/t42/header', [@spoofed, ['x-session', $token]]],
) {
    my ($path, $headers, @kept) = @$case;

    $api->reset_calls;
    is $t->get($path, headers => $headers)->status, 200,
        "T42: $path: granted by another";
    is seen($path), join("\n", 'X-Seen: ||||||||', 'X-First: 1', @kept,
        'X-Last: 2'), "T42: $path: nothing of the client's, nothing ours";
    is $api->calls, 0, "T42: $path: no API call";
}

$backend->answer('/t42-from/x', headers => [['X-Accel-Redirect', '/t42/to']]);
is $t->get('/t42-from/x', headers => \@spoofed)->status, 200,
    'T42: from a granted request';
my ($own) = map { $_->{token} } grep { $_->{user_id} == 1 } $api->sessions;
is $backend->last_request('/t42-from/x')->header('QB-Token'), $own,
    'T42: whose upstream got our token';
is seen('/t42/to'), join("\n", 'X-Seen: ||||||||', 'X-First: 1',
    'X-Last: 2'), 'T42: where another module grants it is not handed on';

$backend->answer('/auth/once', status => 403, times => 1);
$backend->answer('/t42-again', times => 1,
    headers => [['X-Accel-Redirect', '/t42-again']]);
is $t->get('/t42-again', headers => \@spoofed)->status, 200,
    'T42: the same location twice';
is_deeply [map { scalar $_->header('QB-Token') }
    $backend->requests('/t42-again')], [$own, undef],
    'T42: with our grant, and with another module\'s';
is seen('/t42-again'), join("\n", 'X-Seen: ||||||||', 'X-First: 1',
    'X-Last: 2'), 'T42: which ours does not outlive';

$t->done;
