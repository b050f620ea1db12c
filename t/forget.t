# A token that changes its user or its kind, as QuickBlox keeps it at login
# and logout: what was cached of it is never the reason of a refusal for long,
# and "quickblox_forget" forgets it at once.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend;

my %applications = (
    rights => 'cache_invalid 1s;',
    forgetful => 'cache_invalid 0;',
);

my ($blocks, $locations) = ('', '');

for my $name (sort keys %applications) {
    $blocks .= <<"END";
quickblox_application $name {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone $name 128k;
    $applications{$name}
}
END
    $locations .= <<"END";
    location /$name/ {
        quickblox $name;
        proxy_pass %%BACKEND%%;

        location /$name/any/ {
            quickblox_require any;
            proxy_pass %%BACKEND%%;
        }
        location /$name/bob/ {
            quickblox_require user \$is_bob;
            proxy_pass %%BACKEND%%;
        }
    }
END
}

# The API of QuickBlox behind the gateway, and the backend in its place.
for my $forget (qw(auto on off)) {
    $locations .= <<"END";
    location /api/$forget/ {
        quickblox forgetful;
        quickblox_require any;
        quickblox_application_access write;
        quickblox_forget $forget;
        proxy_pass %%API%%/;
    }
    location /forget/$forget/ {
        quickblox forgetful;
        quickblox_forget $forget;
        proxy_pass %%BACKEND%%;
    }
END
}

$t->nginx(<<"END", workers => 2);
$blocks
map \$quickblox_user_id \$is_bob {
    5 1;
}

add_header X-Seen "\$quickblox_status|\$quickblox_user_id" always;

server {
    listen 127.0.0.1:%%PORT_0%%;

$locations
    location /forget/user/ {
        quickblox forgetful;
        quickblox_session user;
        proxy_pass %%BACKEND%%;
    }
}
END

# Status, $quickblox_status and user.
sub seen ($path, $token, %opt) {
    my $res = $t->request(path => $path, token => $token, %opt);

    return join ' ', $res->status, $res->header('X-Seen') // '';
}

sub checks () { return $api->calls('GET /session.json') }

sub login ($token, $login, %opt) {
    my $password = 'Canary-' . ucfirst($login) . '-Pw';
    my $res = $t->request(method => 'POST', path => '/login.json',
        token => $token, json => {login => $login, password => $password},
        %opt);

    return $res->status;
}


# An application's token becomes bob's behind the gateway's back.

{
    my $token = $api->session;

    is seen('/rights/any/', $token), '200 MISS|', 'T48: an application\'s';

    my $began = time;
    my %status;
    $status{seen('/rights/', $token)}++ while time - $began < 1.2;

    is_deeply [keys %status], ['403 REJECTED|'],
        'T48: is refused where a user is needed';
    cmp_ok checks(), '>=', 2, 'T48: not for ever on what was known';
    cmp_ok checks(), '<=', 3,
        'T48: with one call each cache_invalid at most';

    is login($token, 'bob', port => $api->port), 202, 'T48: a login';
    $began = time;
    $t->wait_for(sub { seen('/rights/', $token) =~ /^200/ }, 'login', 4);
    cmp_ok time - $began, '<', 2, 'T48: is noticed within cache_invalid';
    is seen('/rights/', $token), '200 HIT|5', 'T48: and remembered';

    login($token, 'alice', port => $api->port);
    is seen('/rights/bob/', $token), '200 HIT|5',
        'T48: what was granted is granted until cache_valid';
}

# With cache_invalid 0 it is noticed at once.
{
    my $token = $api->session;
    my $before = checks();

    is seen('/forgetful/any/', $token), '200 MISS|', 'T48: an application\'s';
    is seen('/forgetful/', $token), '403 REJECTED|', 'T48: is refused';
    is checks() - $before, 2, 'T48: after it was asked for anew';
    login($token, 'bob', port => $api->port);
    is seen('/forgetful/', $token), '200 MISS|5', 'T48: bob is let in';
    is seen('/forgetful/bob/', $token), '200 HIT|5', 'T48: and there';
    $t->request(method => 'DELETE', path => '/login.json', token => $token,
        port => $api->port);
    is seen('/forgetful/', $token), '200 HIT|5', 'T48: a logout is not known';

    my $other = $api->session(user_id => 6);
    is seen('/forgetful/bob/', $other), '403 REJECTED|', 'T48: alice is not';
    login($other, 'bob', port => $api->port);
    is seen('/forgetful/bob/', $other), '200 MISS|5', 'T48: until she is bob';
}


# T48: quickblox_forget

{
    my $token = $api->session;

    is seen('/forgetful/any/', $token), '200 MISS|', 'T48: an application';
    is seen('/forgetful/any/', $token), '200 HIT|', 'T48: is known';
    is login($token, 'bob', path => '/api/auto/login.json'), 202,
        'T48: becomes bob through the gateway';
    is_deeply [map { seen('/forgetful/', $token) } 1 .. 5],
        ['200 MISS|5', ('200 HIT|5') x 4], 'T48: who is known at once';

    is $t->request(method => 'DELETE', path => '/api/auto/login',
        token => $token)->status, 200, 'T48: logs out';
    is login($token, 'alice', path => '/api/auto//login.xml'), 202,
        'T48: becomes alice';
    is_deeply [map { seen('/forgetful/', $token) } 1 .. 5],
        ['200 MISS|6', ('200 HIT|6') x 4], 'T48: who is known at once';

    is $t->request(method => 'DELETE', path => '/api/auto/session.json',
        token => $token)->status, 200, 'T17: ends her session';
    is_deeply [map { seen('/forgetful/', $token) } 1 .. 4],
        [('401 REJECTED|') x 4], 'T17: which is gone in all workers';
}

# With "off" bob stays known for cache_valid.
{
    my $token = $api->session(user_id => 6);

    is seen('/forgetful/', $token), '200 MISS|6', 'T48: alice';
    is login($token, 'bob', path => '/api/off/login.json'), 202,
        'T48: becomes bob unnoticed with "off"';
    is seen('/forgetful/', $token), '200 HIT|6', 'T48: and is known as alice';
}

my $carol = $api->session(user_id => 5);

my @forgets = (
    # quickblox_forget, method, path; whether it forgets
    ['auto', 'POST', 'login.json', 1],
    ['auto', 'POST', 'login', 1],
    ['auto', 'POST', 'login.xml', 1],
    ['auto', 'POST', 'a/b//login.json?x=y', 1],
    ['auto', 'DELETE', 'login.json', 1],
    ['auto', 'DELETE', 'session', 1],
    ['auto', 'POST', 'session.json', 1],
    ['auto', 'GET', 'login.json', 0],
    ['auto', 'PUT', 'login.json', 0],
    ['auto', 'PATCH', 'session.json', 0],
    ['auto', 'POST', 'logins.json', 0],
    ['auto', 'POST', 'xlogin', 0],
    ['auto', 'POST', 'login/', 0],
    ['auto', 'POST', 'login/x', 0],
    ['auto', 'POST', 'login.html', 0],
    ['auto', 'POST', 'users.json?/login', 0],
    ['auto', 'POST', 'login.json', 0, 422],
    ['auto', 'POST', 'login.json', 0, 500],
    ['auto', 'POST', 'login.json', 0, 302],
    ['auto', 'DELETE', 'login.json', 1, 204],
    ['on', 'GET', 'anything', 1],
    ['on', 'PUT', 'users/5.json', 1],
    ['on', 'GET', 'anything', 0, 404],
    ['off', 'POST', 'login.json', 0],
    ['off', 'DELETE', 'session.json', 0],
);

seen('/forgetful/', $carol);

for my $case (@forgets) {
    my ($forget, $method, $path, $forgets, $status) = @$case;
    $status //= 200;

    $backend->answer("/forget/$forget/" . ($path =~ s/\?.*//r),
        method => $method, status => $status);

    my $res = $t->request(method => $method, path => "/forget/$forget/$path",
        token => $carol);
    $backend->heal;

    is $res->status, $status, "T48: quickblox_forget $forget, $method $path";
    is seen('/forgetful/', $carol), $forgets ? '200 MISS|5' : '200 HIT|5',
        $forgets ? 'is forgotten' : 'is still known';
}

# The gateway's own session is not thrown away for it, but asked for.
{
    my $own = $t->get('/forget/user/')->json->{token};
    $api->reset_calls;

    is $t->request(method => 'DELETE', path => '/forget/user/login.json')
        ->status, 200, 'T48: a logout under the gateway\'s session';
    is $t->get('/forget/user/')->json->{token}, $own,
        'T48: which goes on' for 1 .. 2;
    is_deeply $api->counts, {'GET /session.json' => 1},
        'T48: once it was validated';

    $t->request(method => 'DELETE', path => '/login.json', token => $own,
        port => $api->port);
    $api->reset_calls;

    is $t->request(method => 'DELETE', path => '/forget/user/login.json')
        ->status, 200, 'T48: one that really was a logout';
    isnt $t->get('/forget/user/')->json->{token}, $own,
        'T48: it has become an application\'s and is no longer used'
        for 1 .. 2;
    is_deeply $api->counts, {'GET /session.json' => 1,
        'POST /session.json' => 1}, 'T48: the gateway logs in anew';
}

$t->done;
