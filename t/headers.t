# What a protected location takes away from a request's header list, and the
# one header that it adds: every spelling, any number of headers, HTTP/1 and
# HTTP/2.

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

my @sources = ('client', 'user', 'application', 'api_key', 'none',
    'client-none');

my $locations = join '', map { <<"END" } @sources;
    location /$_/ {
        quickblox_session ${\ s/-/ /r};
        proxy_pass %%BACKEND%%;
        location /$_/renamed/ {
            quickblox_header X-Session-Id;
            proxy_pass %%BACKEND%%;
        }
        location /$_/off/ {
            quickblox_header off;
            proxy_pass %%BACKEND%%;
        }
    }
END

my $server = <<"END";
    quickblox chat;
    underscores_in_headers on;
    ignore_invalid_headers off;
    large_client_header_buffers 8 32k;

$locations
    location /as/ {
        quickblox on-behalf;
        quickblox_session api_key;
        proxy_pass %%BACKEND%%;
    }
    location /preflight/ {
        quickblox_session user;
        quickblox_preflight pass;
        proxy_pass %%BACKEND%%;
    }
    location /open/ {
        quickblox off;
        proxy_pass %%BACKEND%%;
    }
END

my $application = <<'END';
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    api_key Canary-Api-Key-92;
END

$t->nginx(<<"END");
quickblox_application chat {
$application
    zone quickblox 1m;
}

quickblox_application on-behalf {
$application
    on_behalf_of \$arg_as;
    zone quickblox;
}

proxy_http_version 1.1;
keepalive_requests 100000;

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_1%% http2;
$server
}

# The defaults of nginx.
server {
    listen 127.0.0.1:%%PORT_2%%;
    quickblox chat;
    location / {
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
}
END

my $client = $t->client;

# A header list as the backend got it, without what is nginx's and curl's own.
sub list ($headers) {
    return [map { "$_->[0]: $_->[1]" }
        grep { $_->[0] !~ /^(?:host|connection|user-agent|accept)$/i }
        @$headers];
}

# HTTP/2 has names in lower case.
sub sent ($http, $path, $headers, %opt) {
    my $res = $http == 2
        ? $t->h2($path, headers => $headers, port => $t->port(1), %opt)
        : $client->request(path => $path, headers => $headers, %opt);

    return $res->status == 200 ? list($res->json->{headers})
        : [$res->status . ' ' . $res->body];
}

sub lower (@lines) { return map { s/^([^:]+)/lc $1/er } @lines }

my $bob = $api->session(user_id => 5);
my ($user, $app) = map { $t->get($_)->json->{token} } '/user/',
    '/application/';

my %added = (
    client => ["QB-Token: $bob"],
    user => ["QB-Token: $user"],
    application => ["QB-Token: $app"],
    api_key => ['Authorization: ApiKey Canary-Api-Key-92'],
    none => [],
    'client-none' => ["QB-Token: $bob"],
);


# T01: a client's own copy, under each source

for my $source (@sources) {
    for my $http (1, 2) {
        for my $own (0, 1) {

            # Without one, client-none injects nothing.
            next if $source eq 'client' && !$own;

            my @copy = $own ? ['QB-Token', $bob] : ();
            my $added = !$own && $source eq 'client-none' ? []
                : $added{$source};
            my $name = "T01: HTTP/$http, $source, "
                . ($own ? 'a copy' : 'no copy');

            my @kept = $http == 1 ? ('X-One: 1', 'X-Two: 2')
                : ('x-one: 1', 'x-two: 2');
            my @headers = (['X-One', 1], @copy, ['X-Two', 2]);

            is_deeply sent($http, "/$source/", \@headers),
                [@kept, @$added], $name;

            is_deeply sent($http, "/$source/off/", \@headers),
                [@kept, $source eq 'api_key' ? @$added : ()],
                "$name, quickblox_header off";

            is_deeply sent($http, "/$source/renamed/", [@headers,
                ['X-Session-Id', 'forged'], ['x-session_id', 'forged']]),
                [@kept, map { s/^QB-Token/X-Session-Id/r } @$added],
                "$name, another name";
        }
    }
}

is_deeply sent(1, '/preflight/', [['Origin', 'https://app.test'],
    ['Access-Control-Request-Method', 'GET'], ['QB-Token', $bob],
    ['On-Behalf-Of', 5], ['Authorization', 'ApiKey x']], method => 'OPTIONS'),
    ['Origin: https://app.test', 'Access-Control-Request-Method: GET'],
    'T01: a preflight loses its copy, too';
is_deeply sent(1, '/open/', [['QB_Token', $bob], ['On-Behalf-Of', 5],
    ['Authorization', 'ApiKey x']]), ["QB_Token: $bob", 'On-Behalf-Of: 5',
    'Authorization: ApiKey x'], 'T01: "off" takes nothing away';


# T02: spellings

my @names = map {
    my $name = $_;
    map { $name =~ s/-/$_/gr } '-', '_';
} 'QB-Token', 'qb-token', 'QB-TOKEN', 'qB-tOKEN';

my %shape = (
    'a value' => sub ($name) { [$name, 'forged-value'] },
    'nothing' => sub ($name) { [$name, ''] },
    'blanks before and after' => sub ($name) { [$name, " \t forged \t "] },
    'an odd value' => sub ($name) { [$name, "Basic \x01\xff;,\""] },
    'three of them' => sub ($name) {
        ([$name, 'forged-1'], ['X-Between', 1], [$name, ''],
            [$name, 'forged-3'])
    },
);

for my $name (@names) {
    for my $shape (sort keys %shape) {
        for my $http (1, 2) {
            my @headers = (['X-One', 1], $shape{$shape}->($name),
                ['X-Two', 2]);
            my @kept = ('X-One: 1', ('X-Between: 1') x
                grep({ $_->[0] eq 'X-Between' } @headers), 'X-Two: 2');
            @kept = lower(@kept) if $http == 2;

            is_deeply sent($http, '/user/', \@headers),
                [@kept, "QB-Token: $user"],
                "T02: HTTP/$http, $name with $shape";
        }
    }
}

# Bytes that only HTTP/1 can send: no colon at all, no blank after it, names
# that are nearly ours, a folded line.
for my $case (
    ["QB-Token\r\n", []],
    ["QB_Token\r\nqb-token\r\n", []],
    ["QB-Token:forged\r\n", []],
    ["qB_tOKEN:\tforged\r\n", []],
    ["QB-Token: forged\n", []],
    ["QB.Token: 1\r\n", ['QB.Token: 1']],
    ["QB-Token2: 1\r\n", ['QB-Token2: 1']],
    ["XQB-Token: 1\r\n", ['XQB-Token: 1']],
    ["-QB-Token: 1\r\n", ['-QB-Token: 1']],
    ["QB--Token: 1\r\n", ['QB--Token: 1']],
    ["QBToken: 1\r\n", ['QBToken: 1']],
    ["On-Behalf-Of\r\nOn_Behalf-Of: 1\r\n", []],
    ["X-One: 1\r\n QB-Token: forged\r\n", 400],
    ["QB-Token : forged\r\n", 400],
    ["QB-Token\t: forged\r\n", 400],
    ["QB-Token: 1\r\n\tforged\r\n", 400],
    ["QB-Token: a\0b\r\n", 400],
) {
    my ($bytes, $gets) = @$case;
    my $name = 'T02: ' . ($bytes =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger);
    my $hits = $backend->hits('/user/');

    my $answer = $t->raw("GET /user/ HTTP/1.1\r\nHost: localhost\r\n$bytes"
        . "Connection: close\r\n\r\n");

    if (ref $gets) {
        is_deeply list($backend->last_request('/user/')->{headers}),
            [@$gets, "QB-Token: $user"], $name;

    } else {
        like $answer, qr{^HTTP/1.1 400 }, "$name is refused by nginx";
        is $backend->hits('/user/'), $hits, 'and not seen by the backend';
    }
}

# By default nginx itself drops names with an underscore.
is_deeply list($t->get('/', port => $t->port(2), headers => [
    ['QB_Token', 'forged'], ['qb-token', 'forged'], ['X-One', 1],
])->json->{headers}), ['X-One: 1', "QB-Token: $user"],
    'T02: with the defaults of nginx';


# T69: acting for others

my @others = (
    ['On-Behalf-Of', 7], ['on-behalf-of', 7], ['On_Behalf_Of', 7],
    ['ON-BEHALF_OF', 7], ['on_behalf-of', ''], ['On-Behalf-Of', "7\xff"],
    ['Authorization', 'ApiKey Other-Key'],
    ['Authorization', 'apikey Other-Key'],
    ['Authorization', 'APIKEY  Other-Key'],
    ['Authorization', "ApiKey\tOther-Key"],
    ['Authorization', '  ApiKey Other-Key'],
    ['Authorization', 'ApiKey'],
    ['authorization', 'aPIkEY Other-Key'],
);

for my $source (@sources) {
    for my $http (1, $source eq 'user' ? 2 : ()) {
        for my $copy (@others) {
            my @headers = (['QB-Token', $bob], $copy);

            is_deeply sent($http, "/$source/", \@headers), $added{$source},
                "T69: HTTP/$http, $source: $copy->[0]: $copy->[1]";
        }
    }

    is_deeply sent(1, "/$source/", [['QB-Token', $bob],
        map { ['On-Behalf-Of', $_], ['on_behalf_of', $_] } 1 .. 30]),
        $added{$source}, "T69: $source: 60 of them";

    # Another scheme is the client's own affair, but with a key of ours.
    for my $value ('Basic dTpw', 'Bearer ApiKey', 'ApiKeys 1', 'Api-Key 1',
        'ApiKey1', '')
    {
        is_deeply sent(1, "/$source/", [['QB-Token', $bob],
            ['Authorization', $value]]),
            [$source eq 'api_key' ? () : "Authorization: $value",
                @{$added{$source}}], "T69: $source: Authorization: $value";
    }
}

# Never with the key's full rights where a user was meant.
for my $case (
    ['', 403], ['?as=', 403], ['?as=0', 403], ['?as=x', 403], ['?as=7x', 403],
    ['?as=-7', 403], ['?as=+7', 403], ['?as=7.0', 403], ['?as=%37', 403],
    ['?as=7%0d%0aX:y', 403], ['?as=7,8', 403], ['?as=' . '9' x 30, 403],
    ['?as=18446744073709551623', 403],
    ['?as=7', 7], ['?as=7&as=8', 7], ['?as=134567890', 134567890],
) {
    my ($query, $gets) = @$case;
    my $got = sent(1, "/as/$query", [['On-Behalf-Of', 1],
        ['On_Behalf_Of', 1], ['Authorization', 'ApiKey Other-Key']]);

    is_deeply $got, $gets == 403
        ? ['403 {"errors":{"base":["Forbidden"]}}']
        : ['Authorization: ApiKey Canary-Api-Key-92', "On-Behalf-Of: $gets"],
        "T69: on_behalf_of: $query";
}

is $backend->hits('/as/'), 3, 'T69: the others were not handed on';


# T03: "Connection" cannot take the injected header away

for my $value ('QB-Token', 'close, QB-Token', 'keep-alive, qb-token',
    'QB-Token, QB_Token, Authorization, On-Behalf-Of', 'x-session-id')
{
    for my $case (
        ['/user/', ["QB-Token: $user"]],
        ['/user/renamed/', ["X-Session-Id: $user"]],
        ['/client/', ["QB-Token: $bob"]],
        ['/as/?as=7', ['Authorization: ApiKey Canary-Api-Key-92',
            'On-Behalf-Of: 7']],
    ) {
        my ($path, $added) = @$case;
        my $res = $t->get($path, headers => [['QB-Token', $bob],
            ['Connection', $value], ['Connection', 'QB-Token']]);

        is_deeply list($res->json->{headers}), $added,
            "T03: Connection: $value, $path";
    }
}


# T43: all other headers arrive, in order, once

my %large = (3 => 'a' x 8000, 19 => 'b' x 8000);
my $long = $api->session(user_id => 5, token => 'l' x 1024);

for my $http (1, 2) {
    for my $n ($http == 1 ? (1, 18 .. 23, 39 .. 42) : (19, 20), 60, 100) {
        my @headers = map { ["X-Header-$_", $large{$_} // "value $_"] }
            1 .. $n;
        my @kept = map { "$_->[0]: $_->[1]" } @headers;
        @kept = lower(@kept) if $http == 2;

        is_deeply sent($http, '/user/', \@headers),
            [@kept, "QB-Token: $user"], "T43: HTTP/$http, $n headers";

        for my $at (0, int $n / 2, $n) {
            my @copies = @headers;
            splice @copies, $at, 0, ['QB-Token', $long], ['On-Behalf-Of', 1];

            is_deeply sent($http, '/client/', \@copies),
                [@kept, "QB-Token: $long"],
                "T43: HTTP/$http, $n headers, two more after the ${at}th";
        }

        is_deeply sent($http, '/as/?as=7', \@headers), [@kept,
            'Authorization: ApiKey Canary-Api-Key-92', 'On-Behalf-Of: 7'],
            "T43: HTTP/$http, $n headers, two added";

        is_deeply sent($http, '/none/', \@headers), [@kept],
            "T43: HTTP/$http, $n headers, none added";
    }

    # The bytes of names and values are kept, those of nginx's own headers too.
    my @known = (['Accept-Language', 'de'], ['Range', 'bytes=0-'],
        ['Cookie', 'a=b'], ['Authorization', 'Bearer x'], ['Referer', '/'],
        ['Via', '1.1 x'], ['X-Forwarded-For', '1.2.3.4'], ['Date', 'x'],
        ['If-Modified-Since', 'Thu, 01 Jan 1970 00:00:00 GMT'],
        ['X_Under', '1'], ['X.Dot', '2'], ['X-Empty', ''],
        ['X-Same', 1], ['X-Same', 1], ['X-8bit', "\xe9"]);

    # In HTTP/2 cookies come in pieces, which nginx joins at the end.
    my @kept = map { "$_->[0]: $_->[1]" } $http == 1 ? @known
        : sort { ($a->[0] eq 'Cookie') <=> ($b->[0] eq 'Cookie') } @known;
    @kept = lower(@kept) if $http == 2;

    is_deeply sent($http, '/user/', [@known, ['QB-Token', 'forged']]),
        [@kept, "QB-Token: $user"], "T43: HTTP/$http, headers of all sorts";
}

is $api->calls('POST /session.json'), 2, 'one login for each source in all';

$t->done;
