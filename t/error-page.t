# T11, T12: refusals and expired responses where the location has an
# error_page of its own, and other ways that a request takes from one location
# to another.  T41: what the upstream there gets to see.  What nginx itself
# does with "auth_basic" in the place of ours is the oracle.

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

my $marker = 'Protected-Marker';
my $users = $t->write('users', "good:{PLAIN}Canary-Oracle-Pw\n");
my $closed = $t->closed_port;
$t->write('files/file.txt', $marker);

# How a location answers a refused request in its own way, and the answer.
my %page = (
    uri => ['error_page 401 /page;', 401, 'page'],
    own_status => ['error_page 401 = /page;', 200, 'page'],
    ok => ['error_page 401 =200 /page;', 200, 'page'],
    found => ['error_page 401 =302 /page;', 302, 'page'],
    redirect => ['error_page 401 =302 http://a.test/login;', 302,
        qr/302 Found/],
    named => ['error_page 401 @page;', 401, 'named'],
    named_status => ['error_page 401 = @page;', 200, 'named'],
    several => ['error_page 400 401 403 503 /page;', 401, 'page'],
    proxied => ['error_page 401 = /public;', 200, 'public'],
    missing => ['error_page 401 /nowhere;', 404, qr/404 Not Found/],
    other_status => ['error_page 403 404 503 /page;', 401, undef],
    loop => ['error_page 401 /LOCATION; recursive_error_pages on;', 500,
        qr/500 Internal/],
    self => ['error_page 401 /LOCATION;', 401, undef],
    files => ['error_page 401 /page; try_files $uri /public;', 401, 'page'],
    intercept => ['error_page 401 /page; proxy_intercept_errors on;', 401,
        'page'],
    twice => ['error_page 401 /chain; recursive_error_pages on;', 401,
        'page'],
);

my %protection = (
    quickblox => 'quickblox chat;',
    oracle => qq(auth_basic oracle; auth_basic_user_file $users;),
);

my $locations = '';

for my $name (sort keys %page) {
    for my $how (sort keys %protection) {
        my $directives = $page{$name}[0] =~ s/LOCATION/$name\/$how/gr;
        $locations .= <<"END_OF_LOCATION";
    location /$name/$how {
        root %%DIR%%/files;
        $protection{$how}
        $directives
        proxy_pass %%BACKEND%%;
    }
END_OF_LOCATION
    }
}

# T41: every way from a location with the gateway's session to another one.
# The target is a location of its own, or a named one.
my %way = (
    error_page => 'proxy_intercept_errors on; error_page 404 = TARGET;',
    accel => '',
    try_files => 'try_files /nowhere TARGET;',
    post_action => 'post_action TARGET;',
);

my %target = (
    open => 'set $seen "$http_qb_token";',
    off => 'quickblox off; set $seen "$http_qb_token";',
    other => 'quickblox other; quickblox_session application;',
    same => 'quickblox chat; quickblox_session user;',
    same_name => 'quickblox chat; quickblox_session user;'
        . 'quickblox_header X-Session;',
    same_key => 'quickblox chat; quickblox_session api_key;',
    same_none => 'quickblox chat; quickblox_session none;',
);

my $see = 'proxy_set_header X-Seen "$seen$quickblox_token";'
    . 'proxy_pass %%BACKEND%%;';

for my $target (sort keys %target) {
    $locations .= <<"END_OF_LOCATION";
    location /target/$target {
        set \$seen "";
        $target{$target}
        $see
    }
    location \@$target {
        set \$seen "";
        $target{$target}
        rewrite ^ /named/$target break;
        $see
    }
END_OF_LOCATION

    for my $way (sort keys %way) {
        for my $named (0, 1) {
            my $name = $named ? "\@$target" : "/target/$target";
            my $directives = $way{$way} =~ s/TARGET/$name/gr;
            $locations .= <<"END_OF_LOCATION";
    location /from/$way/$named/$target {
        quickblox chat;
        quickblox_session user;
        $directives
        proxy_pass %%BACKEND%%;
    }
END_OF_LOCATION
        }
    }
}

$t->nginx(<<"END_OF_CONFIGURATION");
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
    zone quickblox 1m;
}

quickblox_application other {
    api %%API%%;
    application_id 93;
    auth_key authkey93;
    auth_secret Canary-Secret-93;
    zone quickblox;
}

quickblox_application down {
    api http://127.0.0.1:$closed;
    application_id 92;
    zone quickblox;
}

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;
    default_type text/plain;

    location = /page {
        add_header X-Error "\$quickblox_error" always;
        return 200 page;
    }
    location = /chain {
        $protection{quickblox}
        error_page 401 /page;
        recursive_error_pages on;
        proxy_pass %%BACKEND%%;
    }
    location = /public {
        proxy_pass %%BACKEND%%;
    }
    location \@page {
        return 200 named;
    }

$locations

    location /403 {
        quickblox chat;
        error_page 403 = /page;
        proxy_pass %%BACKEND%%;
    }
    location /503 {
        quickblox down;
        error_page 503 /page;
        proxy_pass %%BACKEND%%;
    }
    location /400 {
        quickblox chat;
        error_page 400 =418 \@page;
        proxy_pass %%BACKEND%%;
    }

    location /mapped {
        quickblox chat;
        add_header X-Cors always-there always;
        proxy_pass %%BACKEND%%;

        location /mapped/page {
            error_page 401 = /page;
            proxy_pass %%BACKEND%%;
        }
        location /mapped/found {
            error_page 401 =302 http://a.test/login;
            proxy_pass %%BACKEND%%;
        }
        location /mapped/named {
            error_page 401 \@page;
            proxy_pass %%BACKEND%%;
        }
        location /mapped/intercept {
            error_page 401 = /page;
            proxy_intercept_errors on;
            proxy_pass %%BACKEND%%;
        }
        location /mapped/retried {
            error_page 401 = \@retried;
            proxy_pass %%BACKEND%%;
        }
    }
    location \@retried {
        rewrite ^ /public break;
        proxy_pass %%BACKEND%%;
    }

    location /accel {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
    location /inner/ {
        internal;
        root %%DIR%%/files;
        rewrite ^/inner(.*) \$1 break;
    }
    location /inner-refused {
        internal;
        quickblox chat;
        quickblox_require user \$quickblox_error;
        proxy_pass %%BACKEND%%;
    }
    location /try {
        quickblox chat;
        root %%DIR%%/files;
        try_files /file.txt =404;
    }
    location /post {
        quickblox chat;
        post_action /post-refused;
        proxy_pass %%BACKEND%%;
    }
    location /post-refused {
        quickblox chat;
        quickblox_require user \$http_x_nobody_sends;
        proxy_pass %%BACKEND%%;
    }

    location /key {
        quickblox chat;
        quickblox_session api_key;
        proxy_pass %%BACKEND%%;
    }
    location /basic {
        $protection{oracle}
        proxy_pass %%BACKEND%%;
    }

    # what \$http_qb_token is, is kept by nginx once it was asked for
    location /copy {
        quickblox chat;
        quickblox_session user;
        proxy_set_header X-Copy "\$http_qb_token";
        proxy_pass %%BACKEND%%;
    }
    location /copied/open {
        proxy_set_header X-Copy "\$http_qb_token";
        proxy_pass %%BACKEND%%;
    }
    location /copied/client {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
    location /copied/text {
        quickblox chat;
        quickblox_token "\${http_qb_token}";
        proxy_pass %%BACKEND%%;
    }
}
END_OF_CONFIGURATION

my $token = $api->session(user_id => 5);
my $foreign = $api->session(application_id => 93, user_id => 5);
my $required = '{"errors":["Token is required"]}';
my $expired = '{"errors":{"base":["Required session does not exist"]}}';

$backend->answer('*', body => $marker);
$backend->answer('/public', body => 'public');


# T11: a refusal meets an error_page

for my $name (sort keys %page) {
    my (undef, $status, $body) = @{$page{$name}};
    my %challenges;

    for my $how (qw(oracle quickblox)) {
        for my $method (qw(GET POST)) {
            my $res = $t->request(method => $method, path => "/$name/$how",
                ($method eq 'POST' ? (body => 'x' x 100_000) : ()));
            my $expected = $body // ($how eq 'oracle'
                ? qr/401 Authorization Required/ : $required);

            is $res->status, $status, "T11: $name, $how, $method: status";
            ref $expected
                ? like $res->body, $expected, "T11: $name, $how: body"
                : is $res->body, $expected, "T11: $name, $how: body";
            unlike $res->body, qr/$marker/, "T12: $name, $how: no leak";
            is $backend->hits("/$name/$how"), 0, "T12: $name, $how: hits";

            $challenges{$how} = () = $res->headers('WWW-Authenticate');
        }
    }

    # A loop sends one for each time round; nginx's own does the same.
    is $challenges{quickblox}, $challenges{oracle},
        "T11: $name: as many challenges as of auth_basic";
}

is $t->get('/redirect/quickblox')->header('Location'),
    'http://a.test/login', 'T11: the login page';
is $t->get('/uri/quickblox')->header('X-Error'), 'Token is required',
    'T11: the page may tell why';
is $t->get('/loop/quickblox', token => $token)->body, $marker,
    'T11: a good token is none of their business';

for my $case (
    ['/403', [['QB-Token', $foreign]], 200, 'page'],
    ['/503', [['QB-Token', $token]], 503, 'page'],
    ['/400', [['QB-Token', $token], ['QB-Token', $foreign]], 418, 'named'],
) {
    my ($path, $headers, $status, $body) = @$case;
    my $res = $t->get($path, headers => $headers);

    is $res->status, $status, "T11: $path: status";
    is $res->body, $body, "T11: $path: the page";
    is $backend->hits($path), 0, "T12: $path: hits";
    like $res->header('Retry-After'), qr/^[1-9]\d?$/,
        "T11: $path: Retry-After" if $path eq '/503';
}


# T11: an expired response meets one

for my $case (
    ['/mapped/none', 401, $expired],
    ['/mapped/page', 200, 'page'],
    ['/mapped/found', 302, qr/302 Found/],
    ['/mapped/named', 401, 'named'],
    ['/mapped/intercept', 200, 'page'],
    ['/mapped/retried', 200, 'public'],
) {
    my ($path, $status, $body) = @$case;

    $backend->answer($path, status => 401, body => "$expired $marker",
        headers => [['Set-Cookie', 'upstream=1'], ['X-Upstream', 1],
            ['ETag', '"1"'], ['Last-Modified',
                'Mon, 28 Sep 1970 06:00:00 GMT']]);

    for my $how ('HTTP/1.1', 'HTTP/2', 'POST') {
        my %req = (headers => [['QB-Token', $token]],
            ($how eq 'POST' ? (body => 'x' x 100_000) : ()));

        $backend->reset;

        my $res = $how eq 'HTTP/2'
            ? $t->h2($path, port => $t->port(1), %req)
            : $t->request(path => $path, %req);
        my $name = "T11: $path, $how";

        is $res->status, $status, "$name: status";
        ref $body ? like $res->body, $body, "$name: body"
            : is $res->body, $body, "$name: body";
        is $backend->hits($path), 1, "$name: one request";

        my %has = map { lc($_->[0]) => 1 } @{$res->pairs};
        is_deeply [grep { $has{$_} } qw(set-cookie x-upstream etag
            last-modified)], [], "$name: nothing of the upstream's header";
        is scalar(my @challenges = $res->headers('WWW-Authenticate')),
            $path eq '/mapped/intercept' ? 0 : 1, "$name: challenge";
    }
}

is $t->get('/mapped/none', token => $token)->header('X-Cors'),
    'always-there', 'T67: a header of the operator\'s own';


# T12: what is protected is not in an answer to one who may not have it

for my $path ('/accel', '/try', '/post') {
    my $res = $t->get($path);

    is $res->status, 401, "T12: $path: status";
    is $res->body, $required, "T12: $path: body";
    is $backend->hits($path), 0, "T12: $path: hits";
}

is $t->get('/try', token => $token)->body, $marker, 'T11: try_files';
is $t->get('/inner/file.txt', token => $token)->status, 404,
    'T11: an internal location';

$backend->answer('/accel', headers => [['X-Accel-Redirect',
    '/inner/file.txt']], body => '');
is $t->get('/accel', token => $token)->body, $marker,
    'T11: X-Accel-Redirect to a file';

$backend->answer('/accel', headers => [['X-Accel-Redirect',
    '/inner-refused']], body => '');
{
    my $res = $t->get('/accel', token => $token);

    is $res->status, 403, 'T11: it ends in a location that refuses';
    is $res->body, '{"errors":{"base":["Forbidden"]}}', 'T11: whose answer';
    is $backend->hits('/inner-refused'), 0, 'T12: which passes nothing on';
}

# The response has gone out by then; the action is refused in silence.
{
    my $client = $t->client;

    $backend->reset;
    is $client->get('/post', token => $token)->body, $marker,
        'T11: post_action';
    is $client->get('/page')->body, 'page', 'T11: and nothing after it';
    is $backend->hits('/post-refused'), 0, 'T12: the action was refused';
    $t->wait_log(qr/quickblox refused: Forbidden, [^\n]*"GET \/post HTTP/);
}


# T41: what an upstream sees of our token, and of what the client sent

my @sent = (['X-First', 1], ['QB-Token', 'Canary-Sent-Token'],
    ['On-Behalf-Of', 7], ['Authorization', 'ApiKey Canary-Sent-Key'],
    ['X-Last', 2]);
my @kept = (['X-First', 1], ['X-Last', 2]);

sub lines (@headers) { return join "\n", map { "$_->[0]: $_->[1]" } @headers }

sub seen ($path) {
    return lines(grep { $_->[0] !~ /^(?:Host|Connection)$/ }
        @{$backend->last_request($path)->{headers}});
}

sub held ($application_id, $user_id) {
    my ($session) = grep { $_->{application_id} == $application_id
        && $_->{user_id} == $user_id } $api->sessions;

    return $session->{token};
}

for my $way (sort keys %way) {
    for my $target (sort keys %target) {
        for my $named (0, 1) {
            my $from = "/from/$way/$named/$target";
            my $to = ($named ? '/named/' : '/target/') . $target;
            my $name = "T41: $way from chat to $to";

            $backend->heal;
            $backend->reset;
            $backend->answer($from, status => 404) if $way eq 'error_page';
            $backend->answer($from, headers => [['X-Accel-Redirect',
                $named ? "\@$target" : "/target/$target"]])
                if $way eq 'accel';

            is $t->get($from, headers => \@sent)->status, 200, "$name: done";
            $backend->wait_hits($to);

            my ($own, $others) = (held(92, 1), held(93, 0));
            my %given = (
                other => ['QB-Token', $others],
                same => ['QB-Token', $own],
                same_name => ['X-Session', $own],
                same_key => ['Authorization', 'ApiKey Canary-Api-Key-92'],
            );
            my $given = $given{$target};
            my $token = $target =~ /open|off/ ? 'Canary-Sent-Token'
                : !$given || $target eq 'same_key' ? '' : $given->[1];

            is seen($from), lines(@kept, ['QB-Token', $own]),
                "$name: the first upstream" if $way ne 'try_files';
            is seen($to), lines(
                (length $token ? ['X-Seen', $token] : ()),
                ($target =~ /open|off/ ? @sent : (@kept, $given // ())),
            ), "$name: the second";
        }
    }
}

# T43: header lists that have parts
for my $n (18, 19, 20, 21, 40, 100) {
    my @many = map { ["X-$_", 'x' x 10] } 1 .. $n;

    for my $target (sort keys %target) {
        my $from = "/from/accel/0/$target";
        my $open = $target =~ /open|off/;

        $backend->heal;
        $backend->reset;
        $backend->answer($from,
            headers => [['X-Accel-Redirect', "/target/$target"]]);

        for my $token ([], [['QB-Token', 'Canary-Sent-Token']]) {
            is $t->get($from, headers => [@many[0 .. 9], @$token,
                @many[10 .. $#many]])->status, 200,
                "T43: $n header fields from chat to $target";
            is seen($from), lines(@many, ['QB-Token', held(92, 1)]),
                "T43: $n into $target: the first";
            is seen("/target/$target") =~ s/^X-Seen: .*\n//r
                =~ s/\n(?:QB-Token|X-Session|Authorization): .*\z//r,
                lines($open ? (@many[0 .. 9], @$token, @many[10 .. $#many])
                    : @many), "T43: $n into $target: the second";
        }
    }
}

# What "auth_basic" reads is the client's again, as well.
{
    my @basic = (['Authorization',
        'Basic ' . encode_base64('good:Canary-Oracle-Pw', '')]);

    $backend->heal;
    $backend->answer('/key', headers => [['X-Accel-Redirect', '/basic']]);

    is $t->get('/key')->status, 401, 'T41: a key does not log in elsewhere';
    is $t->get('/key', headers => [@basic])->status, 200,
        'T41: but a login does';
    is seen('/key'), lines(['Authorization', 'ApiKey Canary-Api-Key-92']),
        'T41: where the key was needed';
    is seen('/basic'), lines(@basic), 'T41: where the login was';
}

for my $case (
    ['/copied/open', 200],
    ['/copied/client', 401],
    ['/copied/text', 401],
) {
    my ($to, $status) = @$case;

    $backend->heal;
    $backend->answer('/copy', headers => [['X-Accel-Redirect', $to]]);

    is $t->get('/copy')->status, $status,
        "T41: from where \$http_qb_token was used to $to";
    is $backend->hits($to), $status == 200 ? 1 : 0, "T41: $to: hits";
    is seen($to), '', "T41: $to: what it saw" if $backend->hits($to);
}

$t->done;
