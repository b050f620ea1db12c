# T10, T41: subrequests.  No access phase sees them, so a protected location
# does not protect itself from one; the token that its parent was given goes
# with it into locations of the same application, and nowhere else.

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

# Every way to a subrequest, and whether our token is there by then.
my %way = (
    ssi => ['ssi on;', 1],
    mirror => ['mirror TARGET;', 1],
    add_after => ['add_after_body TARGET;', 1],
    add_before => ['add_before_body TARGET;', 1],
    auth_request => ['auth_request TARGET;', 0],
);

my %target = (
    open => '',
    off => 'quickblox off;',
    other => 'quickblox other; quickblox_session application;',
    same => 'quickblox chat; quickblox_session user;',
    # the location's own name for what its parent was given
    same_name => 'quickblox chat; quickblox_header X-Session;',
);

my %source = (
    user => 'quickblox_session user;',
    client => 'quickblox_session client;',
    api_key => 'quickblox_session api_key;',
);

# Not every nginx is built with it.
my $can_slice = `@{[Gateway::Nginx::binary()]} -V 2>&1` =~ /slice_module/;

my $slice = !$can_slice ? '' : <<'END_OF_LOCATION';
    location /slice {
        quickblox chat;
        quickblox_session user;
        slice 10;
        proxy_set_header Range $slice_range;
        proxy_pass %%BACKEND%%;
    }
END_OF_LOCATION

my $locations = '';

for my $target (sort keys %target) {
    $locations .= <<"END_OF_LOCATION";
    location /target/$target {
        $target{$target}
        proxy_set_header X-Seen "\$http_qb_token|\$quickblox_token";
        proxy_pass %%BACKEND%%;
    }
END_OF_LOCATION

    for my $way (sort keys %way) {
        for my $source (sort keys %source) {
            my $directives = $way{$way}[0] =~ s{TARGET}{/target/$target}r;
            $locations .= <<"END_OF_LOCATION";
    location /$way/$source/$target {
        quickblox chat;
        $source{$source}
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

proxy_cache_path %%DIR%%/cache keys_zone=cache:1m;

server {
    listen 127.0.0.1:%%PORT_0%%;
    proxy_cache_valid 1s;

$locations

    location /page {
        ssi on;
        proxy_pass %%BACKEND%%;
    }
    location /nested/chat {
        ssi on;
        quickblox chat;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /nested/no-header {
        ssi on;
        quickblox chat;
        quickblox_session user;
        quickblox_header off;
        proxy_pass %%BACKEND%%;
    }
    location /nested/other {
        ssi on;
        quickblox other;
        quickblox_session application;
        proxy_pass %%BACKEND%%;
    }
    location /nested/open {
        ssi on;
        proxy_pass %%BACKEND%%;
    }

    location /copy {
        ssi on;
        quickblox chat;
        quickblox_session user;
        proxy_set_header X-Copy "\$http_qb_token";
        proxy_pass %%BACKEND%%;
    }

    $slice
    location /update {
        quickblox chat;
        quickblox_session user;
        proxy_cache cache;
        proxy_cache_use_stale updating;
        proxy_cache_background_update on;
        add_header X-Cache \$upstream_cache_status;
        proxy_pass %%BACKEND%%;
    }
}
END_OF_CONFIGURATION

my $token = $api->session(user_id => 5);

sub lines (@headers) { return join "\n", map { "$_->[0]: $_->[1]" } @headers }

sub fields ($request) {
    return lines(grep { $_->[0] !~ /^(?:Host|Connection)$/ }
        @{$request->{headers}});
}

sub seen ($path) { return fields($backend->last_request($path)) }

sub held () {
    my ($session) = grep { $_->{application_id} == 92
        && $_->{user_id} == 1 } $api->sessions;

    return $session->{token};
}

sub include ($path) { return qq(<!--# include virtual="$path" -->) }

sub html ($path, $body) {
    return $backend->answer($path, body => $body,
        headers => [['Content-Type', 'text/html']]);
}


# T41: each way × source of the parent × target

my @sent = (['X-First', 1], ['On-Behalf-Of', 7],
    ['Authorization', 'ApiKey Canary-Sent-Key'], ['X-Last', 2]);
my @kept = (['X-First', 1], ['X-Last', 2]);
my @key = (['Authorization', 'ApiKey Canary-Api-Key-92']);

for my $way (sort keys %way) {
    for my $source (sort keys %source) {
        my $brought = $source eq 'client' ? $token : 'Canary-Sent-Token';
        my @request = (@sent[0, 1], ['QB-Token', $brought], @sent[2, 3]);

        for my $target (sort keys %target) {
            my $from = "/$way/$source/$target";
            my $to = "/target/$target";
            my $name = "T41: $way, $source, into $target";

            $backend->heal;
            $backend->reset;
            html($from, $way eq 'ssi' ? include($to) : 'page');

            is $t->get($from, headers => \@request)->status, 200,
                "$name: status";
            $backend->wait_hits($to);

            my $own = $source eq 'user' ? held() : $token;
            my @own = $source eq 'api_key' ? @key : ['QB-Token', $own];
            my $given = $way{$way}[1] && $target =~ /same/;

            is seen($from), lines(@kept, @own), "$name: the parent";

            # What $http_qb_token is there, must fit the header as well.
            my @header = $target =~ /open|off/ ? @request
                : !$given ? @kept
                : $target eq 'same' || $source eq 'api_key' ? (@kept, @own)
                : (@kept, ['X-Session', $own]);
            my ($read) = map { $_->[1] } grep { $_->[0] eq 'QB-Token' }
                @header;

            is seen($to), lines(
                ['X-Seen', ($read // '') . '|'
                    . ($given && $source ne 'api_key' ? $own : '')],
                @header,
            ), "$name: the subrequest";
        }
    }
}


# T10: from an unprotected page into a protected location

for my $target (qw(same other)) {
    $backend->heal;
    $backend->reset;
    $api->reset_calls;
    html('/page', include("/target/$target"));

    is $t->get('/page', headers => [@kept, ['QB-Token', $token]])->status,
        200, "T10: from an unprotected page into $target";
    is seen("/target/$target"), lines(['X-Seen', '|'], @kept),
        "T10: $target: nothing of ours, nothing of the client's";
    is seen('/page'), lines(@kept, ['QB-Token', $token]),
        'T10: the page itself gets what the client sent';
    is $api->calls, 0, 'T10: no API call';
}

# A parent that is refused has no subrequests.
$backend->reset;
is $t->get("/$_/client/open")->status, 401, "T12: $_: a refused parent"
    for qw(ssi mirror add_after add_before);
is $backend->hits, 0, 'T12: and nothing after it';


# T41: subrequests of subrequests, where the client's list was or was not
# changed for the first one

my @chains = (
    [qw(chat chat open)],
    [qw(chat open chat)],
    [qw(chat other chat)],
    [qw(chat other open)],
    [qw(no-header chat open)],
    [qw(no-header chat other)],
    [qw(open chat open)],
    [qw(open chat other open)],
    [qw(chat no-header open)],
);

for my $chain (map { my $chain = $_; map { [$_, @$chain] } 0, 1 } @chains) {
    my ($spoofed, @names) = @$chain;
    my @paths = map { "/nested/$names[$_]-$_" } 0 .. $#names;
    my @request = (['X-First', 1],
        ($spoofed ? ['QB-Token', 'Canary-Sent-Token'] : ()),
        ['X-Last', 2]);

    $backend->heal;
    $backend->reset;
    html($paths[$_], $_ < $#names ? include($paths[$_ + 1]) : 'end')
        for 0 .. $#names;

    is $t->get($paths[0], headers => \@request)->body, 'end',
        "T41: @names";

    for (0 .. $#names) {
        my @header = $names[$_] eq 'open' ? @request
            : $names[$_] eq 'chat' && $names[0] ne 'open'
                ? (@kept, ['QB-Token', held()])
            : @kept;

        is seen($paths[$_]), lines(@header),
            "T41: @names" . ($spoofed ? ', spoofed' : '')
                . ': request ' . ($_ + 1);
    }
}

# T43: header lists that have parts
for my $n (18, 19, 20, 21, 40, 100) {
    my @many = map { ["X-$_", 'x' x 10] } 1 .. $n;

    for my $token ([], [['QB-Token', 'Canary-Sent-Token']]) {
        my @request = (@many[0 .. 9], @$token, @many[10 .. $#many]);

        $backend->heal;
        $backend->reset;
        html('/nested/chat', join '', map { include("/target/$_") }
            qw(open same other off same_name));

        is $t->get('/nested/chat', headers => \@request)->status, 200,
            "T43: $n header fields";

        for my $case (
            ['/nested/chat', @many, ['QB-Token', held()]],
            ['/target/open', @request],
            ['/target/same', @many, ['QB-Token', held()]],
            ['/target/other', @many],
            ['/target/off', @request],
            ['/target/same_name', @many, ['X-Session', held()]],
        ) {
            my ($path, @header) = @$case;

            is seen($path) =~ s/^X-Seen: .*\n//r, lines(@header),
                "T43: $n header fields: $path";
        }
    }
}

# What nginx has looked up once, it keeps for subrequests too.
$backend->heal;
$backend->reset;
html('/copy', include('/target/open'));
is $t->get('/copy')->status, 200, 'T41: $http_qb_token was used before';
is seen('/copy'), lines(['X-Copy', held()], ['QB-Token', held()]),
    'T41: where it is ours';
is seen('/target/open'), lines(['X-Seen', '|']), 'T41: but not elsewhere';


# Subrequests that are copies of their parent have its token

SKIP: {
    skip 'this nginx has no slice module', 2 if !$can_slice;

    $backend->answer('/slice', status => 206, body => 'b' x 10,
        headers => [['Content-Range', 'bytes 10-19/20'], ['ETag', '"1"']]);
    $backend->answer('/slice', status => 206, body => 'a' x 10, times => 1,
        headers => [['Content-Range', 'bytes 0-9/20'], ['ETag', '"1"']]);

    is $t->get('/slice', headers => [['QB-Token', 'Canary-Sent-Token'],
        ['On-Behalf-Of', 7]])->body, 'a' x 10 . 'b' x 10, 'slices';
    is join("\n\n", map { fields($_) } $backend->requests('/slice')),
        join("\n\n", map { lines(['Range', "bytes=$_"],
            ['QB-Token', held()]) } '0-9', '10-19'),
        'each asked for with our token, once';
}

is $t->get('/update')->header('X-Cache'), 'MISS', 'a response is cached';
$t->wait_for(sub {
    $t->get('/update', headers => [['QB-Token', 'Canary-Sent-Token']])
        ->header('X-Cache') eq 'STALE';
}, 'stale response');
$backend->wait_hits('/update', 2);
is join("\n\n", map { fields($_) } $backend->requests('/update')),
    join("\n\n", (lines(['QB-Token', held()])) x 2),
    'and updated in the background with our token';

$t->done;
