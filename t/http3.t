# Over HTTP/3, by scripts of a page in Debian's Chromium: a client's token, the
# gateway's own session, replays with bodies, logins of which the body comes
# whole, in parts, or never; a client that goes away; many streams at once.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use List::Util qw(uniq);
use Node;
use Test::More;

plan skip_all => 'this nginx has no HTTP/3'
    if !Gateway::Nginx::has('--with-http_v3_module');

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend(check => $api);
my $front = $t->backend;
my $cert = $t->cert;

$t->secret('Canary-Wrong-Pw');
$t->write('cookie_key', '5' x 64 . "\n");
chmod 0600, $t->dir . '/cookie_key';

my $nginx = $t->nginx(<<"END");
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    cookie_key %%DIR%%/cookie_key;
    zone quickblox 1m;
}

log_format seen '\$server_protocol \$uri \$status \$quickblox_status';
access_log %%DIR%%/nginx/access.log seen;

server {
    listen 127.0.0.1:%%PORT_0%% ssl;
    listen 127.0.0.1:%%PORT_0%% quic;
    ssl_certificate $cert->{cert};
    ssl_certificate_key $cert->{key};
    add_header X-Seen "\$http3|\$quickblox_status|\$quickblox_replayed"
        always;
    large_client_header_buffers 4 16k;
    client_body_buffer_size 64k;

    quickblox chat;

    location = /page {
        quickblox off;
        default_type text/html;
        return 200 '<!DOCTYPE html><title>A page</title>';
    }
    location = /favicon.ico {
        quickblox off;
        return 204;
    }
    location /client/ {
        proxy_pass %%BACKEND%%;
    }
    location /user/ {
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
    location /cookie/ {
        quickblox_session cookie;
        proxy_pass %%BACKEND%%;
    }
    location = /login {
        quickblox_login;
    }
    location = /logout {
        quickblox_session cookie;
        quickblox_logout;
    }
    location = /me {
        quickblox_session cookie;
        quickblox_check;
    }
    location = /proxied {
        quickblox_login;
        error_page 400 401 413 415 = /front/page;
    }
    location = /front/page {
        internal;
        quickblox off;
        proxy_pass ${\ $front->url};
    }
}
END

my $token = $api->session(user_id => 6);
my $origin = '127.0.0.1:' . $t->port(0);

my $seen = Node::seen($t, 't/browser/http3.js', {
    page => "https://$origin/page",
    control => "http://127.0.0.1:$api->{control}",
    token => $token,
    log => $nginx->dir . '/access.log',
    chromium => Node::program('chromium'),
    quic => {origin => $origin, key => key($cert->{cert})},
});

ok $seen, 'all was tried';

if ($seen) {
    injects($seen);
    replays($seen);
    logs_in($seen);
    refuses($seen);
    survives($seen);
}

my @protocols = uniq map { /^(\S+)/ } split /\n/, $nginx->access_log;
is "@protocols", 'HTTP/3.0', 'nothing came by another protocol';

$t->done;


# By which the browser knows the server.
sub key ($file) {
    return `openssl x509 -in $file -pubkey -noout | openssl pkey -pubin \\
        -outform der | openssl dgst -sha256 -binary | openssl base64`
        =~ s/\n//r;
}

# status, X-Seen
sub is_seen ($res, $status, $want, $name) {
    return is_deeply [@$res{qw(status seen)}], [$status, $want], $name
        || diag explain $res;
}

sub injects ($seen) {
    is_seen($seen->{miss}, 200, 'h3|MISS|', 'a token');
    is_seen($seen->{hit}, 200, 'h3|HIT|', 'the token again');
    is $seen->{hit}{json}{token}, $token, 'reaches the backend';

    is_seen($seen->{missing}, 401, 'h3|REJECTED|', 'no token');
    is $seen->{missing}{type}, 'application/json', 'a refusal in JSON';
    is_deeply $seen->{missing}{json},
        {errors => ['Token is required']}, 'as QuickBlox would';

    is_seen($seen->{user}, 200, 'h3|MISS|', 'the gateway\'s session');
    like $seen->{user}{json}{token}, qr/^\w{20,}$/, 'is injected';

    return;
}

sub replays ($seen) {
    for my $size (1000, 300_000) {
        for my $how ('replay', 'streamed') {
            my $res = $seen->{"$how$size"};

            is_seen($res, 200, 'h3|MISS|1', "$how, $size bytes");
            is $res->{json}{body_length}, $size, 'the body went twice';
        }
    }

    is $backend->hits('/user/replay'), 8, 'each was sent twice';

    return;
}

sub logs_in ($seen) {
    is $seen->{nobody}{status}, 401, 'nobody is logged in';
    is $seen->{$_}{status}, 200, $_ for qw(login me call logout parts);
    is $seen->{$_}{json}{session}{user_id}, 5, "$_: whose session"
        for qw(login me parts);
    is $seen->{out}{status}, 401, 'after the logout';
    is $seen->{wrong}{status}, 401, 'a wrong password';
    is $seen->{$_}{status}, 413, $_ for qw(large largeParts);

    return;
}

sub refuses ($seen) {
    my $proxied = $seen->{proxied};

    for my $name (sort keys %$proxied) {
        is $proxied->{$name}{status}, 200, "a page for $name";
        is $proxied->{$name}{json}{body_length}, 0,
            'its upstream gets no body';
    }

    is $front->hits('/front/page'), keys %$proxied, 'once each';

    return;
}

sub survives ($seen) {
    my @many = @{$seen->{many}};

    is_deeply [map { $_->[0] } @many], [(200) x 50], 'many at once';
    is_deeply [map { $_->[2] } @many],
        [map { $_ % 2 ? 1000 * $_ : 0 } 0 .. 49], 'with their bodies';
    is uniq(map { $_->[1] } @many), 1, 'and one session';

    return;
}
