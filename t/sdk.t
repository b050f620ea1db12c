# The official JavaScript SDK, unmodified, behind the gateway of
# docs/recipes.md, over TLS: from Node, and from a page of another origin in
# Chromium.  Its sessionExpired listener is told once for each call, one new
# session serves them all, refusals can be read, preflights obtain nothing.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Docs;
use Gateway;
use Mojo::JSON qw(decode_json encode_json);
use Node;
use Test::More;

my $RECIPES = 'docs/recipes.md';
my $SDK = 'The official SDK behind a gateway';

my $unknown = 0;

my $t = Gateway->new;
my $api = $t->api(tls => $t->cert(names => ['api.quickblox.com']));
my $backend = $t->backend;
my ($gateway, $page, $plain, $own)
    = map { '127.0.0.1:' . $t->port($_) } 0 .. 3;

# The page's own server, and what the recipe's has nothing of.
my $more = <<"END";
server {
    listen $page ssl;
    ssl_certificate %%CERT%%;
    ssl_certificate_key %%KEY%%;
    default_type text/html;
    root %%DIR%%/page;
    location = /quickblox.min.js {
        alias $Gateway::ROOT/node_modules/quickblox/quickblox.min.js;
    }
    location = /report {
        proxy_pass %%BACKEND%%;
    }
}

server {
    listen $plain ssl;
    ssl_certificate %%CERT%%;
    ssl_certificate_key %%KEY%%;
    location / {
        quickblox chat;
        proxy_pass %%BACKEND%%;
    }
}

quickblox_application own {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone own 1m;
}

server {
    listen $own;
    location / {
        quickblox own;
        quickblox_session user;
        quickblox_preflight pass;
        proxy_pass %%API%%;
    }
}
END

$t->nginx(
    Docs::http($t, Docs::recipe($RECIPES, $SDK),
        api => '127.0.0.1:' . $api->tls_port) . $more,
    env => {SSL_CERT_FILE => $t->ca},
);

my ($recipe) = map { $_->{text} } grep { $_->{language} eq 'js'
    && $_->{heading} eq $SDK } Docs::blocks($RECIPES);

is $recipe =~ s/'gateway\.example\.com'/'$gateway'/g, 1,
    'the recipe names the gateway';

$t->write('page/recipe.js', <<"END");
function recipe(QB, APP_ID, AUTH_KEY, AUTH_SECRET, credentials) {
$recipe
}

if (typeof module !== 'undefined') {
    module.exports = recipe;
}
END
$t->write("page/$_->[0]", Docs::slurp("t/sdk/$_->[1]"))
    for ['index.html', 'page.html'], ['scenario.js', 'scenario.js'];
chmod 0755, $t->dir . '/page';

for (['Node', \&in_node], ['Chromium', \&in_chromium]) {
    my ($where, $run) = @$_;
    my @tokens = map { "Canary-$where-$_" } qw(live application foreign);

    $t->write('page/conf.json', encode_json({
        gateway => $gateway,
        plain => "https://$plain/",
        api => $api->url,
        login => "carol-$where",
        tokens => \@tokens,
    }));
    $t->secret(@tokens, 'Canary-Carol-Pw');
    $api->reset_calls;

    my $seen = $run->();

    ok $seen && !$seen->{error}, "$where: all was tried"
        or diag explain $seen;

    went_well($where, $seen);
    listener($where, $seen);
    refusals($where, $seen);
    recovery();
}

preflights();
open_places();

$t->done;


sub in_node {
    my $dir = $t->dir;

    local $ENV{NODE_EXTRA_CA_CERTS} = $t->ca;
    my $pid = Node::start("$dir/node.log", Node::program('node', 'nodejs'),
        't/sdk/node.js', map { "$dir/$_" } 'page/conf.json', 'page/recipe.js',
        'node.json');

    return decode_json($t->read('node.json')) if Node::finish($t, $pid, 60);

    diag $t->read('node.log');
    return;
}

sub in_chromium {
    my $dir = $t->dir;

    local $ENV{HOME} = $dir;
    my $pid = Node::start("$dir/chromium.log", Node::program('chromium'),
        '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
        '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync',
        '--disable-dev-shm-usage', '--ignore-certificate-errors',
        '--remote-debugging-port=0',
        "--user-data-dir=$dir/chromium", "https://$page/index.html");

    my $done = eval { $backend->wait_hits('/report', 1, 25) };

    Node::finish($t, $pid, 0);

    return decode_json($backend->last_request('/report')->{body}) if $done;

    diag $t->read('chromium.log');
    return;
}

# T71: a session, a user, a login: one token.
sub went_well ($where, $seen) {
    my $token = $seen->{session}{result}{token};
    my $id = $seen->{created}{result}{id};

    is $seen->{session}{result}{user_id}, 0, "T71: $where: a session";
    is_deeply $seen->{readonly},
        {code => 403, detail => {base => ['Forbidden. Need user.']}},
        "T71: $where: that may not write";
    ok $id, "T71: $where: a user is created";
    is $seen->{login}{result}{id}, $id, "T71: $where: and logs in";
    is_deeply [@{$seen->{check}{result}{session}}{qw(token user_id)}],
        [$token, $id], "T71: $where: with the same token";
    is scalar(grep { $_->{user}{id} == $id }
        @{$seen->{users}{result}{items}}), 1, "T71: $where: is listed";
    is $seen->{note}{result}{user_id}, $id, "T71: $where: and may write";

    return;
}

# T71: twenty calls on a stale token.
sub listener ($where, $seen) {
    my @requests = $api->requests;
    my (@twenty, $inside);

    for (@requests) {
        $inside = $_->{path} eq '/twenty' ? 1
            : $_->{path} eq '/end' ? 0 : $inside;
        push @twenty, $_ if $inside;
    }

    shift @twenty;

    my $preflights = grep { $_->{method} eq 'OPTIONS' } @twenty;
    my %calls;
    $calls{$_->{endpoint}}++ for grep { $_->{method} ne 'OPTIONS' } @twenty;

    is $seen->{listener}, 20, "T71: $where: the listener is told once a call";
    is scalar(grep { ref $_->{result}{items} } @{$seen->{twenty}}), 20,
        "T71: $where: all calls go through";
    is $calls{'POST /session.json'}, 1, "T71: $where: by one new session";

    my ($create) = grep { $_->{endpoint} eq 'POST /session.json' } @twenty;
    is $create->header('QB-Token'), $seen->{session}{result}{token},
        "T71: $where: whose request had the stale token";

    # Those that the API refuses itself, and those that work.
    my $lists = $calls{'GET /users.json'};
    ok $lists >= 21 && $lists <= 40, "T71: $where: no loop of calls"
        or diag explain \%calls;
    my $checks = $calls{'GET /session.json'};
    ok $checks >= 1 && $checks <= 21, "T71: $where: nor of validations"
        or diag explain \%calls;
    ok $preflights <= 40, "T71: $where: nor of preflights"
        or diag $preflights;

    is_deeply [sort keys %calls],
        ['GET /session.json', 'GET /users.json', 'POST /session.json'],
        "T71: $where: nothing else is called";

    is scalar(grep { $_->{endpoint} eq 'POST /session.json' } @requests), 2,
        "T71: $where: two sessions in all";
    is_deeply $seen->{without}, {code => 401,
        detail => ['Token is required']}, "T71: $where: none, none made";

    return;
}

sub refusals ($where, $seen) {
    my $base = sub ($text) { return encode_json({errors =>
        {base => [$text]}}) };

    is_deeply $seen->{refusals}, [
        [401, encode_json({errors => ['Token is required']})],
        [401, $base->('Required session does not exist')],
        [403, $base->('Session belongs to another application')],
        [403, $base->('Forbidden. Need user.')],
        [401, $base->('Required session does not exist')],
        [503, $base->('Service is temporarily unavailable')],
    ], "T67: $where: refusals can be read";

    # Chromium does keep to CORS.
    is_deeply $seen->{plain}, $where eq 'Node'
        ? [401, encode_json({errors => ['Token is required']})]
        : [0, 'TypeError'], "T67: $where: without CORS";

    return;
}

# The API has just failed, so it is left alone for a second.  A token that
# nothing is remembered of tells when that is over.
sub recovery {
    return $t->wait_for(sub {
        my $token = 'unknown-' . ++$unknown;
        $t->get('/users.json', token => $token, ssl => 1)->status == 401;
    });
}

# T71: OPTIONS under the gateway's own session.
sub preflights {
    my @preflight = (['Origin', 'https://app.example.com'],
        ['Access-Control-Request-Method', 'GET'],
        ['Access-Control-Request-Headers', 'qb-token']);

    my $options = sub (@headers) {
        $api->reset_calls;
        my $res = $t->request(method => 'OPTIONS', path => '/users.json',
            port => $t->port(3), headers => \@headers);
        my ($request) = $api->requests('/users.json');

        return [$res->status, $api->calls('POST /session.json'),
            $request ? scalar($request->header_all('QB-Token')) : undef];
    };

    is_deeply $options->(@preflight), [200, 0, 0],
        'T71: a preflight obtains no session';
    is_deeply $options->(@preflight, ['QB-Token', 'Canary-spoofed']),
        [200, 0, 0], 'T71: nor brings its own token';
    is_deeply $options->($preflight[0]), [200, 1, 1],
        'T71: any other OPTIONS is a request';

    return;
}

# T71: what an SDK calls before it has a session, or with an old one.
sub open_places {
    my @cases = (
        ['/account_settings.json', 200],
        ['/account_settings', 200],
        ['//account_settings.json', 200],
        ['/session.json', 401],
        ['//session', 401],
        ['/users.json', 401],
    );

    for (@cases) {
        my ($path, $status) = @$_;
        $api->reset_calls;
        my $res = $t->get($path, token => 'Canary-stale', ssl => 1);
        is $res->status, $status, "T71: GET $path";
        is $api->calls, 1, "T71: GET $path: is asked of the API";
    }

    return;
}
