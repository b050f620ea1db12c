# The official JavaScript SDK, unmodified, takes over what the gateway hands
# out, in Node and in Chromium: a session from quickblox_login token
# application, so that the client has no auth_secret, logs in and works (use 4
# of issue 5); the session of a user whom another module vouches for, from
# quickblox_check token (use 5).

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use MIME::Base64 qw(encode_base64);
use Node;
use Test::More;

my $t = Gateway->new;
my $api = $t->api(tls => 1);
my $gateway = '127.0.0.1:' . $t->port(0);

# The company's own passwords: plain ones will do.
$t->write('staff', "dora:{PLAIN}Canary-Dora-Pw\nemil:{PLAIN}Canary-Emil-Pw\n");
$t->write('page/index.html', "<!DOCTYPE html>\n<title>t/sdk-handover.t</title>"
    . "\n<script src=\"/page/quickblox.min.js\"></script>\n");
chmod 0755, $t->dir . '/page';

$t->nginx(<<"END", env => {SSL_CERT_FILE => $t->ca});
quickblox_application chat {
    api            https://localhost:%%API_TLS_PORT%%;
    application_id 92;
    auth_key       wJHd4cQSxpQGWx5;
    auth_secret    jyqGNhbGxkvBTgd;
    api_key        Canary-Api-Key-92;
    cache_invalid  0;
    zone           quickblox 1m;
}

map \$remote_user \$quickblox_id {
    dora    5;
    default '';
}

server {
    listen $gateway ssl;
    ssl_certificate %%CERT%%;
    ssl_certificate_key %%KEY%%;

    quickblox chat;
    quickblox_session client;
    quickblox_require any;

    location = /start {
        quickblox_login token application;
    }

    location = /staff {
        auth_basic staff;
        auth_basic_user_file %%DIR%%/staff;
        quickblox_session user_token;
        quickblox_user \$quickblox_id;
        quickblox_check token;
    }

    location = /own {
        quickblox_session application;
        add_header X-Session "\$quickblox_session_type \$quickblox_user_id";
        proxy_pass %%API%%/users.json;
    }

    location ~ ^/(login|users)(\\.json)?\$ {
        quickblox_application_access write;
        proxy_pass %%API%%;
    }

    location / {
        proxy_pass %%API%%;
    }

    location /page/ {
        quickblox off;
        default_type text/html;
        root %%DIR%%;
    }

    location = /page/quickblox.min.js {
        quickblox off;
        default_type text/javascript;
        alias $Gateway::ROOT/node_modules/quickblox/quickblox.min.js;
    }

    location = /favicon.ico {
        quickblox off;
        return 204;
    }
}
END

my %known = (
    gateway => $gateway,
    user => {login => 'alice', password => 'Canary-Alice-Pw'},
    dora => 'Basic ' . encode_base64('dora:Canary-Dora-Pw', ''),
    emil => 'Basic ' . encode_base64('emil:Canary-Emil-Pw', ''),
);

$t->secret(qw(Canary-Dora-Pw Canary-Emil-Pw));
$ENV{NODE_EXTRA_CA_CERTS} = $t->ca;

for my $where (qw(Node Chromium)) {
    # A user has one session of this kind, whoever asks.
    $api->reset_calls;

    my $seen = Node::seen($t, 't/sdk/handover.js', {
        %known,
        $where eq 'Node' ? () : (chromium => Node::program('chromium')),
    });

    ok $seen, "$where: all was tried" or next;

    without_secret($where, $seen);
    vouched_for($where, $seen);
}

$t->done;


# Use 4
sub without_secret ($where, $seen) {
    my ($first, $second) = map { $_->[1]{session} } @{$seen->{handed}};
    my $token = $first->{token};

    is_deeply [map { $_->[0] } @{$seen->{handed}}], [200, 200],
        "$where: a session is handed out";
    is_deeply [@$first{qw(application_id user_id type)}],
        [92, 0, 'application'], "$where: of the application";
    isnt $token, $second->{token}, "$where: to each client one of its own";

    is_deeply [@{$seen->{started}{result}{session}}{qw(token user_id)}],
        [$token, 0], "$where: startSessionWithToken takes it";
    is_deeply $seen->{before}, {code => 403,
        detail => {base => ['Forbidden. Need user.']}},
        "$where: it may not write";
    is $seen->{login}{result}{id}, 6, "$where: login upgrades it";
    is_deeply [@{$seen->{check}{result}{session}}{qw(token user_id)}],
        [$token, 6], "$where: the token stays the same";
    is $seen->{note}{result}{user_id}, 6, "$where: and may write";
    cmp_ok scalar(@{$seen->{users}{result}{items} // []}), '>=', 3,
        "$where: and read";

    my %user = map { $_->{token} => $_->{user_id} } $api->sessions;
    is $user{$second->{token}}, 0, "$where: the other client is not logged in";
    is $seen->{own}, 'application', "$where: nor is the gateway";

    ok exists $seen->{logout}{result}, "$where: logout";
    is_deeply $seen->{after}, $seen->{before}, "$where: then it may not write";

    return;
}

# Use 5
sub vouched_for ($where, $seen) {
    my ($first, $again, $second, $third)
        = map { $_->[1]{session} } @{$seen->{dora}};
    my $token = $first->{token};

    is_deeply [map { $_->[0] } @{$seen->{dora}}], [(200) x 4],
        "$where: dora gets a session";
    is_deeply [@$first{qw(application_id user_id type)}], [92, 5, 'user'],
        "$where: of her user";
    is $again->{token}, $token, "$where: the same again";
    is $api->calls('POST /users/{id}/tokens'), $where eq 'Node' ? 3 : 2,
        "$where: which is made once, with the API key";
    is_deeply [@{$seen->{taken}{result}{session}}{qw(token user_id)}],
        [$token, 5], "$where: startSessionWithToken takes it";
    is $seen->{herNote}{result}{user_id}, 5, "$where: and it works";
    ok exists $seen->{herLogout}{result}, "$where: logged out by the SDK";
    isnt $second->{token}, $token, "$where: she gets another";
    ok exists $seen->{herEnd}{result}, "$where: ended by the SDK";
    isnt $third->{token}, $second->{token}, "$where: she gets another";
    is_deeply [@{$seen->{takenAgain}{result}{session}}{qw(token user_id)}],
        [$third->{token}, 5], "$where: that works";

    is_deeply $seen->{emil}, [401, {errors => ['Token is required']}],
        "$where: emil is no user of QuickBlox";
    is $t->get('/staff', ssl => 1)->status, 401,
        "$where: nobody vouches for others";

    return;
}
