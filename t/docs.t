# README.md and docs/ say what the code does: all configurations are good,
# links lead somewhere, every directive, variable, default and refusal of the
# code is documented and no other, with an example each; the recipes do what
# they promise, and the first errors are told as they are logged.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Docs;
use Gateway;
use Mojo::JSON qw(decode_json);
use Test::More;

my $t = Gateway->new;

my %source = map { m{/ngx_http_quickblox_(\w+)\.c$} ? ($1 => Docs::slurp($_))
    : () } glob 'ngx_http_quickblox_module/*.c';


# Configurations

my @configurations = Docs::configurations();

cmp_ok scalar(@configurations), '>=', 75, 'there are configurations';

# Nothing is kept from the test by another word behind its fence.
is_deeply [map { "$_->{file}:$_->{line}" } grep {
    $_->{language} !~ /^(?:nginx|perl)$/
        && $_->{text} =~ /^ *quickblox\w* .*[;{]$/m
} map { Docs::blocks($_) } Docs::files()], [], 'all configurations are told';

for (@configurations) {
    like Docs::said($t, Docs::http($t, $_->{text})),
        qr/\Anginx: .*syntax is ok\nnginx: .*is successful\n\z/,
        "$_->{file}:$_->{line}: \"$_->{heading}\" is a good configuration";
}


# The test that is shown, as a file of its own.
{
    my ($shown) = grep { $_->{language} eq 'perl' }
        Docs::blocks('docs/contributing.md');
    my $file = $t->write('shown.t', $shown->{text});

    is scalar(grep { /^ok / } `$^X $file 2>&1`), 5, 'the test that is shown';
    is $?, 0, 'passes';
}


# Links

my (%anchors, %linked, @links);

for my $file (Docs::files()) {
    my $text = Docs::slurp($file) =~ s/^```.*?^```$//gmsr;

    for ($text =~ /^#+ (.+)$/mg) {
        my $anchor = lc =~ s/[^\w\- ]//gr =~ tr/ /-/r;
        ok !$anchors{$file}{$anchor}++, "$file: one heading \"$_\"";
    }

    push @links, map { [$file, $_] } $text =~ /\]\(([^)]*)\)/g;
}

my @broken = grep {
    my ($file, $link) = @$_;
    my ($path, $anchor) = split /#/, $link, 2;
    my $target = !length($path // '') ? $file
        : $file =~ m{/} ? "docs/$path" =~ s{^docs/\.\./}{}r : $path;

    $linked{$target} = 1 if $target ne $file;

    $link =~ /^\w+:/
        ? $link !~ m{^https://(?:[a-z0-9-]+\.)+[a-z]{2,}(?:/[\w./#-]*)?$}
        : !-e $target || defined $anchor && !$anchors{$target}{$anchor};
} @links;

cmp_ok scalar(@links), '>=', 150, 'there are links';
is_deeply \@broken, [], 'no broken links';
is_deeply [grep { !$linked{$_} } Docs::files()], ['README.md'],
    'something leads to each page';

my ($fleet) = grep { $_->{heading} eq 'Sizing' }
    Docs::blocks('docs/performance.md');

is $fleet->{text}, scalar(`$^X bench/fleet`),
    'the calls of several gateways are those that the script tells';


# Directives

my %enums = map { %{enums($_)} } @source{qw(module application)};

my %code = (
    map { commands($_) } @source{qw(module application)},
);

my %docs;

for my $block (Docs::blocks('docs/directives.md')) {
    my ($syntax, $default, $context) = $block->{text} =~
        /\ASyntax:  (.+)\nDefault: (.+)\nContext: (.+)\n\z/ or next;
    my ($name) = $syntax =~ /^(\w+)/;

    ok !$docs{$name}, "$name: documented once";
    is $block->{heading}, $name, "$name: under its name";

    $docs{$name} = {syntax => $syntax, default => $default,
        context => $context};
}

examples('docs/directives.md', qr/([a-z_]+)/, sub ($name, $text) {
    return $text =~ /^\s*(?:location [^{]*\{ )?\Q$name\E\b.*[;{]/m;
});

is_deeply [sort keys %docs], [sort keys %code],
    'all directives of the code are documented, and no other';

# Of those that have no slot, or whose default takes memory.
my %default = (
    api => qr/default_api =\s*ngx_string\("(.*?)"\)/,
    quickblox => qr/conf->application, prev->application, (NULL)\)/,
    quickblox_session => qr/conf->sources\);\s+\*value\ =\s
        NGX_HTTP_QUICKBLOX_SOURCE_(\w+);/x,
    quickblox_token => qr/ngx_str_set\(&token, "(.*?)"\)/,
    quickblox_require => qr/conf->require_any, prev->require_any, (\d+)\)/,
    quickblox_header => qr/ngx_str_set\(&header, "(.*?)"\)/,
    quickblox_preflight => qr/conf->preflight, prev->preflight, (\d+)\)/,
    quickblox_origin => qr/conf->origins, prev->origins, (NULL)\)/,
    quickblox_on_expired => qr/conf->on_expired, prev->on_expired, (".*?")/,
    cookie => qr/ngx_str_set\(&app->cookie\.name,\ "(.*?)"\);
        .*ngx_str_set\(&app->cookie_attributes,\s+";\ (.*?)"\)/xs,
    quickblox_expired => qr/\*value\ =\ (NGX_HTTP_UNAUTHORIZED);
        \s+ngx_str_set\(&conf->expired_text,\s+"(.*?)"\)/x,
    ssl_ciphers => qr/ngx_str_set\(&app->ssl_ciphers, "(.*?)"\)/,
    ssl_protocols => qr/app->ssl_protocols\ =\ NGX_CONF_BITMASK_SET
        \s+\|NGX_SSL_(\w+)\|NGX_SSL_(\w+);/x,
);

my %spelled = (
    quickblox => {NULL => 'off'},
    quickblox_session => {CLIENT => 'client'},
    quickblox_origin => {NULL => 'self'},
    quickblox_on_expired => {'""' => 'off'},
    cookie => {'Secure; HttpOnly; SameSite=Lax; Path=/'
        => 'Secure HttpOnly SameSite=Lax Path=/'},
    quickblox_require => {0 => 'user'},
    quickblox_preflight => {0 => 'off'},
    quickblox_expired => {NGX_HTTP_UNAUTHORIZED => 401},
    ssl_protocols => {TLSv1_2 => 'TLSv1.2', TLSv1_3 => 'TLSv1.3'},
);

# These follow from others.
my %text = (
    api_host => 'the host of "api"',
    ssl_trusted_certificate => q(the system's CA store),
);

for my $name (sort keys %code) {
    my ($code, $docs) = ($code{$name}, $docs{$name} // next);

    is $docs->{context}, $code->{context}, "$name: context";
    is $docs->{default}, documented($name, $code, $docs), "$name: default";

    for my $value (@{$enums{$code->{post}} // []}) {
        like $docs->{syntax}, qr/[ \[]\Q$value->[0]\E[ ;\]]/,
            "$name: \"$value->[0]\" is documented";
    }
}

my ($sources) = $source{module} =~ /source_names\[\] = \{(.*?)\};/s;
my $session = (Docs::slurp('docs/directives.md')
    =~ /^### quickblox_session\n(.*?)^### /ms)[0];
is_deeply [$session =~ /^\| `(\w+)`/mg], [$sources =~ /"(\w+)"/g],
    'all sources are documented, and no other';


# Variables

my ($table) = $source{variable} =~ /variables\[\] = \{(.*?)\};/s;
my $variables = Docs::slurp('docs/variables.md');

is_deeply [$variables =~ /^### \$(\w+)$/mg], [$table =~ /"(\w+)"/g],
    'all variables are documented, and no other';

examples('docs/variables.md', qr/\$(\w+)/, sub ($name, $text) {
    return $text =~ /\$\Q$name\E\b/;
});

# Names that a configuration has of its own are in its block.
my %word = map { $_ => 1 } keys %code, $table =~ /"(\w+)"/g,
    map { "quickblox_$_" } 'build_info',
        $source{report} =~ /\{ "(\w+)", "(?:counter|gauge|histogram)"/g;

for my $file (Docs::files()) {
    my $text = Docs::slurp($file) =~ s/^```.*?^```$//gmsr;

    is_deeply [grep { !$word{$_} } $text =~ /\b(quickblox_\w+)/g], [],
        "$file: what it speaks of is there";
}

my ($statuses) = $source{variable} =~ /statuses\[\] = \{(.*?)\};/s;
is_deeply [$variables =~ /^\| `([A-Z]+)`/mg], [$statuses =~ /"(\w+)"/g],
    'all values of $quickblox_status are documented, and no other';

my ($format) = grep { /log_format/ } map { $_->{text} }
    Docs::blocks('docs/troubleshooting.md');
is_deeply [sort $format =~ /\$(quickblox_\w+)/g],
    [sort grep { $_ ne 'quickblox_token' } $table =~ /"(\w+)"/g],
    'a log_format has all variables but the token';

my $changes = Docs::slurp('CHANGES');
is_deeply [grep { $changes !~ /\b\Q$_\E\b/ }
    (grep { /^quickblox/ } keys %code), $table =~ /"(\w+)"/g], [],
    'CHANGES names all directives and variables';


# Refusals

{
    my %status = (BAD_REQUEST => 400, UNAUTHORIZED => 401, FORBIDDEN => 403,
        NOT_ALLOWED => 405, REQUEST_ENTITY_TOO_LARGE => 413,
        UNSUPPORTED_MEDIA_TYPE => 415, SERVICE_UNAVAILABLE => 503);
    my ($refusals) = $source{refusal} =~ /refusals\[\] = \{(.*?)\};/s;
    my @code;

    push @code, [$status{$1}, $4 . ($3 eq 'array' ? ' *' : ''), $2]
        while $refusals =~
            /\{ NGX_HTTP_(\w+), (\d+),\s+ngx_http_quickblox_(\w+)\("(.*?)"\)/g;

    my $text = Docs::slurp('docs/responses.md');
    my @docs = map { [$_->[0], $_->[1]] }
        map { [/^\| (\d+) \| (.*?) \|/] } $text =~ /^(\| \d+ .*)/mg;

    is_deeply \@docs, [map { [@$_[0, 1]] } @code],
        'all refusals are documented, and no other';

    my %grpc = map { $_->[0] => $_->[2] } @code;
    my ($said) = $text =~ /`grpc-status` (.*?), and/;
    is_deeply {reverse $said =~ /(\d+) for (\d+)/g}, \%grpc,
        'so are statuses of gRPC';
}


# Rooms, and what each uses: never round.

{
    my %uses = map {
        my $room = $_;
        ($room => [sort grep { !/^(?:module|$room|status_page)$/ }
            $source{$room} =~ /^#include "ngx_http_quickblox_(\w+)\.h"/mg]);
    } keys %source;

    my ($rooms) = Docs::slurp('docs/how-it-works.md') =~ /^## Rooms\n(.*)/ms;
    my %docs = map { my ($room, $used) = @$_; $room => [$used =~ /(\w+)/g] }
        map { [/^\| `(\w+)`(?: \(pure\))? \| .* \|(.*)\|$/] }
        $rooms =~ /^(\| `.*)$/mg;

    is_deeply \%docs, \%uses, 'all rooms are documented, with what they use';

    # Whoever uses none but those that are done is done.
    my %left = %uses;
    delete $left{module};

    while (my @done = grep { !grep { $left{$_} } @{$left{$_}} } keys %left) {
        delete @left{@done};
    }

    is_deeply [keys %left], [], 'no room uses one that uses it';
}


# The first errors

my $api = $t->api(tls => 1);

{
    my $file = 'docs/getting-started.md';
    my $good = Docs::recipe($file, '4. Configure')
        =~ s{^quickblox_application chat \{\n}
            {$&api http://api.quickblox.com; connect_timeout 20s;\n}r;

    my %line = map { $_->{heading} => $_->{text} =~ s/\n\z//r }
        reverse grep { $_->{language} eq 'text' } Docs::blocks($file);

    my $run = sub ($heading, $text, %opt) {
        my $http = Docs::http($t, $text,
            api => '127.0.0.1:' . ($opt{port} // $api->port));
        $t->write(@{$opt{write}}) if $opt{write};
        my $nginx = $t->nginx($http);

        my $res = $t->get('/api/hello', port => $t->port(8080));
        my ($said) = map { /: (quickblox .*)/ ? $1 : () }
            grep { !/\[debug\]/ } split /\n/, $t->error_log;
        like $said, qr/^\Q$line{$heading}\E(?!\w)/, "$file: $heading"
            if defined $heading;

        $nginx->stop;
        return $res;
    };

    my $res = $run->(undef, $good);
    is $res->status, 200, "$file: all is well";
    is $res->header('X-QuickBlox-Status'), 'MISS', "$file: a new session";
    like $res->body, qr/^the upstream got QB-Token: \w{40}$/,
        "$file: which the upstream gets";

    $run->('Wrong auth_secret', $good,
        write => ['auth_secret', "Canary-Wrong-Secret\n"]);
    $run->('Wrong login or password', $good,
        write => ['password', "Canary-Wrong-Pw\n"]);
    $run->('Wrong application_id or auth_key', $good =~ s/ 92;/ 93;/r);
    $run->('Wrong application_id or auth_key', $good =~ s/GWx5;/GWx6;/r);

    $api->set(host => 'another.example.com');
    $run->('Wrong host of the API', $good);
    $api->set(host => '');

    $api->close_port;
    $run->('The API cannot be reached', $good);
    $api->open_port;

    $run->('The certificate is not accepted',
        $good =~ s{http://(?=api)}{https://}r, port => $api->tls_port);

    my ($ok, $said) = $t->test_config($good, module => 0);
    like $said, qr/\Q$line{'nginx does not know the directive'}\E/,
        "$file: no module";
}


# Recipes

my $backend = $t->backend;
my $bob = $api->session(user_id => 5);

my $nginx = sub ($heading, $extra = '', $number = 0) {
    my $text = Docs::recipe('docs/recipes.md', $heading, $number);

    # the API of the test speaks no TLS
    my $url = $api->url;
    $text =~ s/^quickblox_application chat \{\n/$&    api $url;\n/m;

    my $nginx = $t->nginx(Docs::http($t, $text,
        api => '127.0.0.1:' . $api->port,
        backend => '127.0.0.1:' . $backend->port) . $extra,
        level => 'info');

    $backend->reset;
    return $nginx;
};

{
    my $nginx = $nginx->('WebSocket');
    my @upgrade = (['Upgrade', 'websocket'], ['Connection', 'Upgrade']);

    my $get = sub ($protocols) {
        return $t->get('/socket', headers => [@upgrade,
            ['Sec-WebSocket-Protocol', $protocols]]);
    };

    my %headers = map { lc $_->[0] => $_->[1] }
        @{$get->("chat, token.$bob")->json->{headers}};

    is $headers{'qb-token'}, $bob, 'T61: a token as a WebSocket protocol';
    is $headers{'sec-websocket-protocol'}, 'chat',
        'T61: is no protocol for the upstream';
    is $get->("token.$bob,chat")->status, 200, 'T61: in any order';
    is $get->('chat, mytoken.12345678')->status, 401, 'T61: no other word';
    $nginx->stop;
}

{
    my $nginx = $nginx->('Requests without the client\'s headers');
    my @headers = grep { $_->[0] !~ /^(?:Host|Connection)$/ }
        @{$t->get('/api/a', token => 'spoofed-1')->json->{headers}};

    is_deeply [map { $_->[0] } @headers], ['QB-Token'],
        'T63: the upstream gets the token';
    isnt $headers[0][1], 'spoofed-1', 'T63: of the gateway';
    $nginx->stop;
}

{
    my $nginx = $nginx->('SDK hand-over');
    my %status;

    my ($one, $two) = map { $t->post('/session')->json->{session} } 1, 2;
    is $one->{type}, 'application', 'SDK hand-over: an application session';
    isnt $one->{token}, $two->{token}, 'for each client its own';

    $status{$t->post('/session')->status}++ for 1 .. 8;
    cmp_ok $status{503}, '>=', 3, 'and not without end';
    $nginx->stop;
}

{
    my $nginx = $nginx->('Telling the backend of an expiry');
    my $token = $api->session(user_id => 6);

    is $t->get('/api/a', token => $token)->status, 200, 'before an expiry';
    $backend->answer('/api/a', status => 401,
        body => '{"errors":{"base":["Required session does not exist"]}}');
    is $t->get('/api/a', token => $token)->status, 401, 'an expiry';
    $backend->wait_hits('/session-expired');

    my $told = $backend->last_request('/session-expired');
    my $json = decode_json($told->{body});
    is $told->{method}, 'POST', 'is told to the backend';
    is_deeply [@$json{qw(user source)}], [6, 'client'], 'with its user';
    cmp_ok $json->{expires}, '>', time, 'and its time';

    $backend->heal;
    $nginx->stop;
}

# A cookie that the old key has sealed, and one of the new key.
{
    my $server = <<'END';
server {
    listen 127.0.0.1:%%PORT_0%%;
    quickblox chat;
    location = /login { quickblox_login; }
    location = /me { quickblox_session cookie; quickblox_check; }
}
END
    my $old = $t->nginx(Docs::http($t, '',
        api => '127.0.0.1:' . $api->port) . $server);
    my $cookie = sub {
        return ($t->post('/login', undef, json => {login => 'bob',
            password => 'Canary-Bob-Pw'})->header('Set-Cookie')
            =~ /^([^;]+)/)[0];
    };
    my $me = sub ($cookie) {
        return $t->get('/me', headers => [['Cookie', $cookie]])->status;
    };

    my $sealed = $cookie->();
    is $me->($sealed), 200, 'key rotation: before';
    $old->stop;

    my $both = $nginx->('Key rotation', $server);
    my $new = $cookie->();
    is_deeply [map { $me->($_) } $sealed, $new], [200, 200],
        'both keys open';
    $both->stop;

    $old->start;
    is $me->($new), 401, 'the first one seals';
    $old->stop;
}

$t->done;


# Each section below a heading of a file that matches has a text, and an
# example that a function likes.
sub examples ($file, $heading, $good) {
    my @blocks = grep { $_->{language} eq 'nginx' } Docs::blocks($file);
    my @sections = split /^#+ (.+)\n/m,
        Docs::slurp($file) =~ s/^```.*?^```$//gmsr;
    shift @sections;

    while (my ($title, $text) = splice @sections, 0, 2) {
        my ($name) = $title =~ /^$heading$/ or next;

        ok scalar(grep { $good->($name, $_->{text}) }
            grep { $_->{heading} eq $title } @blocks), "$name: an example";
        cmp_ok length($text =~ s/\s+/ /gr), '>', 25, "$name: a text";
    }

    return;
}

# The enumerations of a file: name => [[text, constant], ...]
sub enums ($text) {
    my %enums;

    $enums{$1} = $2 while $text =~ /(\w+)\[\] = \{(.*?)\n\};/gs;

    $_ = [map { [/"(.*?)"\), (\w+)/] } /\{ (ngx_string\(.*?) \}/g]
        for values %enums;

    return \%enums;
}

# The commands of a file: name => {context, setter, post, default}
sub commands ($text) {
    my %commands;

    while ($text =~ /\{\ ngx_string\("(\w+)"\),\s+ ([\w|]*_CONF\w*[\w|]*),\s+
        (\w+),\s+ \w+,\s+ (?:offsetof\(\w+,\s+ (\S+)\)|0),\s+
        (\S+)\ \}/gx)
    {
        my ($directive, $type, $setter, $field, $post) = ($1, $2, $3, $4, $5);
        my @context = $type =~ /ANY_CONF/
            ? ('http, server, location, limit_except')
            : $type =~ /MAIN_CONF/ ? 'http'
            : $type =~ /HTTP_LOC_CONF/ ? 'location'
            : 'quickblox_application';

        my $default = !defined $field ? undef
            : $text =~ /ngx_conf_init_\w*value\(app->\Q$field\E,\s+(\w+)\)/
                ? $1
            : $text =~ /ngx_conf_merge_\w*value\(conf->\Q$field\E,
                \s+prev->\Q$field\E,\s+(\w+)\)/x ? $1 : undef;

        $commands{$directive} = {
            context => "@context",
            setter => $setter,
            post => $post =~ s/^&//r,
            default => $default,
        };
    }

    return %commands;
}

# What the documentation of the default has to be.  A time or size is spelled
# as it is there when its value is right.
sub documented ($name, $code, $docs) {
    return $text{$name} if $text{$name};

    my @values;

    if ($default{$name}) {
        my $file = $code->{context} =~ /quickblox_app/ ? 'application'
            : 'module';
        @values = map { $spelled{$name}{$_} // $_ }
            $source{$file} =~ $default{$name};
        $values[1] = qq("$values[1]") if $name eq 'quickblox_expired';

    } elsif (!defined $code->{default}) {
        return '-';

    } elsif (my $enum = $enums{$code->{post}}) {
        @values = map { $_->[0] } grep { $_->[1] eq $code->{default} } @$enum;

    } elsif ($code->{setter} eq 'ngx_conf_set_flag_slot') {
        @values = $code->{default} ? 'on' : 'off';

    } else {
        my $value = $code->{default}
            / ($code->{setter} eq 'ngx_conf_set_msec_slot' ? 1000 : 1);
        my %unit = (s => 1, m => 60, h => 3600, k => 1024);
        my ($number, $unit) = $docs->{default} =~ / (\d+)([smhk]?);$/;
        @values = defined $number && $number * ($unit{$unit} // 1) == $value
            ? $number . $unit : $value;
    }

    return join(' ', $name, @values) . ';';
}
