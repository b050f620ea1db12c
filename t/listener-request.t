# The request of quickblox_on_expired: it delays no client, and goes on when
# the client is gone; every kind of location can be its target; no variable
# and no directive stumbles over there being no connection; reload and end of
# nginx while it is under way.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Gateway;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time);

my $t = Gateway->new;
my $api = $t->api;
my $backend = $t->backend(check => $api);
my $told = $t->backend;

my $fastcgi = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
    LocalPort => $t->port('fastcgi'), Listen => 5, ReuseAddr => 1)
    or die "fastcgi: $@";

$t->write('html/static.html', "static\n");
$t->write('html/dir/index.html', "index\n");

# All that nginx knows by a name of its own; what this nginx does not know is
# left out.
my @variables = qw(ancient_browser arg_a binary_remote_addr body_bytes_sent
    bytes_sent connection connection_requests connection_time
    connections_active connections_reading connections_waiting
    connections_writing content_length content_type cookie_a date_gmt
    date_local document_root document_uri fastcgi_path_info
    fastcgi_script_name gzip_ratio host hostname http2 http3 http_cookie
    http_host http_qb_token http_referer http_user_agent http_via
    http_x_forwarded_for http_authorization https invalid_referer is_args
    is_request_port
    limit_conn_status limit_rate limit_req_status memcached_key modern_browser
    msec msie nginx_version pid pipe proxy_add_x_forwarded_for proxy_host
    proxy_internal_body_length proxy_internal_chunked proxy_port
    proxy_protocol_addr proxy_protocol_port proxy_protocol_server_addr
    proxy_protocol_server_port proxy_protocol_tlv_0x01 query_string
    realip_remote_addr realip_remote_port realpath_root remote_addr
    remote_port remote_user request request_body request_body_file
    request_completion request_filename request_id request_length
    request_method request_port request_time request_uri scheme secure_link
    secure_link_expires sent_http_cache_control sent_http_connection
    sent_http_content_length sent_http_content_type sent_http_keep_alive
    sent_http_last_modified sent_http_link sent_http_location
    sent_http_transfer_encoding sent_trailer_a server_addr server_name
    server_port server_protocol slice_range ssl_alpn_protocol ssl_cipher
    ssl_ciphers ssl_client_cert ssl_client_escaped_cert
    ssl_client_fingerprint ssl_client_i_dn ssl_client_i_dn_legacy
    ssl_client_raw_cert ssl_client_s_dn ssl_client_s_dn_legacy
    ssl_client_serial ssl_client_v_end ssl_client_v_remain
    ssl_client_v_start ssl_client_verify ssl_curve ssl_curves ssl_early_data
    ssl_protocol ssl_server_name ssl_session_id ssl_session_reused status
    tcpinfo_rcv_space tcpinfo_rtt tcpinfo_rttvar tcpinfo_snd_cwnd
    time_iso8601 time_local uid_got uid_reset uid_set upstream_addr
    upstream_bytes_received upstream_bytes_sent upstream_cache_status
    upstream_connect_time upstream_cookie_a upstream_header_time
    upstream_http_a upstream_response_length upstream_response_time
    upstream_status upstream_trailer_a uri quickblox_token quickblox_user_id
    quickblox_application_id quickblox_session_type quickblox_session_source
    quickblox_expires quickblox_status quickblox_replayed quickblox_error);

sub format_of (@names) {
    return 'log_format all escape=json '
        . join("\n", map { "'$_=\"\$$_\" '" } @names) . ";\n";
}

# The target of each listener.
my %target = (
    missing => 'root %%DIR%%/html;',
    static => 'alias %%DIR%%/html/static.html;',
    directory => 'rewrite ^ /dir/ break; root %%DIR%%/html;',
    internal => 'internal; proxy_pass TOLD;',
    ok => 'return 200 "text";',
    empty => 'return 204;',
    gone => 'return 404;',
    error => 'return 500;',
    dropped => 'return 444;',
    redirect => 'return 302 /elsewhere;',
    error_page => 'error_page 404 = /missing; return 404;',
    named => 'try_files /none @named; root %%DIR%%/html;',
    try_files => 'root %%DIR%%/html; try_files /none /static.html =404;',
    rewritten => 'rewrite ^ /internal last;',
    loop => 'rewrite ^ /loop last;',
    dead => 'proxy_pass http://127.0.0.1:%%PORT_closed%%;',
    blackhole => 'proxy_connect_timeout 200ms;'
        . 'proxy_pass http://127.0.0.1:%%PORT_blackhole%%;',
    intercepted => 'error_page 401 = /static; proxy_intercept_errors on;'
        . 'proxy_pass %%BACKEND%%/none;',
    dead_fastcgi => 'fastcgi_pass 127.0.0.1:%%PORT_closed%%;',
    fastcgi => 'fastcgi_param QB_USER $quickblox_user_id;'
        . 'fastcgi_param QB_TOKEN "($quickblox_token)";'
        . 'fastcgi_pass 127.0.0.1:%%PORT_fastcgi%%;',
    uwsgi => 'uwsgi_pass 127.0.0.1:%%PORT_closed%%;',
    scgi => 'scgi_pass 127.0.0.1:%%PORT_closed%%;',
    grpc => 'grpc_pass 127.0.0.1:%%PORT_closed%%;',
    protected => 'quickblox chat; quickblox_session client user;'
        . 'proxy_pass TOLD;',
    guarded => 'quickblox chat; quickblox_session user;'
        . 'proxy_pass %%BACKEND%%;',
    other => 'quickblox other; quickblox_session application;'
        . 'proxy_pass TOLD;',
    denied => 'deny all; auth_basic x; auth_request /denied;'
        . 'proxy_pass TOLD;',
    login => 'quickblox chat; quickblox_login token;',
    check => 'quickblox chat; quickblox_check;',
    cached => 'proxy_cache told; proxy_cache_valid any 1m; proxy_pass TOLD;',
    sliced => 'slice 10; proxy_set_header Range $slice_range;'
        . 'proxy_set_header X-User $quickblox_user_id;'
        . 'proxy_pass TOLD;',
    mirrored => 'mirror /internal; proxy_pass TOLD;',
    included => 'ssi on; add_after_body /internal; proxy_pass TOLD;',
    unbuffered => 'proxy_buffering off; proxy_pass TOLD;',
    keepalive => 'proxy_http_version 1.1; proxy_set_header Connection "";'
        . 'proxy_set_header X-User $quickblox_user_id;'
        . 'proxy_pass http://keepalive;',
    hashed => 'proxy_pass http://hashed;',
    bound => 'proxy_bind $remote_addr; proxy_pass TOLD;',
    bound_server => 'proxy_bind $server_addr; proxy_pass TOLD;',
    limited => 'limit_req zone=delay burst=5; proxy_pass TOLD;',
    limited_hard => 'limit_req zone=rate; proxy_pass TOLD;',
    counted => 'limit_conn count 1; proxy_pass TOLD;',
    slow => 'limit_rate 1; proxy_limit_rate 100000; proxy_pass TOLD;',
    real => 'set_real_ip_from unix:; real_ip_header X-Real-IP;'
        . 'proxy_pass TOLD;',
    geo => 'return 200 $geo$split$mapped;',
    secure => 'valid_referers none a.test;'
        . 'if ($invalid_referer) { return 403; }'
        . 'userid on; gzip on; sub_filter a b; proxy_pass TOLD;',
    image => 'dav_methods PUT; random_index on; root %%DIR%%/html;',
    stat => 'stub_status;',
    post => 'proxy_method POST; proxy_set_body "$quickblox_user_id";'
        . 'proxy_pass TOLD;',
    hang => 'proxy_pass TOLD;',
);

# What reaches the recording listener's backend.
my @reaches = grep { $target{$_} =~ /proxy_pass TOLD|keepalive|hashed/
    } sort keys %target;

$t->blackhole;
$t->closed_port;

my $has_slice = Gateway::Nginx::has('--with-http_slice_module');
delete $target{sliced} if !$has_slice;
@reaches = grep { $target{$_} } @reaches;

sub configuration ($format) {
    my $locations = join '', map { <<"END" =~ s/TOLD/$told->url . "\/$_"/er }
location /from/$_ {
    quickblox chat;
    quickblox_on_expired /$_;
    proxy_pass %%BACKEND%%;
}
location = /$_ {
    $target{$_}
}
END
        sort keys %target;

    return $format . <<"END";
limit_req_zone \$binary_remote_addr zone=rate:32k rate=1r/m;
limit_req_zone \$binary_remote_addr zone=delay:32k rate=5r/s;
limit_conn_zone \$binary_remote_addr\$server_addr zone=count:32k;
geo \$geo { default a; 10.0.0.0/8 b; }
split_clients \$remote_addr\$remote_port \$split { 50% a; * b; }
map \$http_host\$request\$remote_user \$mapped { default c; }
proxy_cache_path %%DIR%%/cache keys_zone=told:1m;
upstream keepalive {
    server 127.0.0.1:@{[$told->port]};
    keepalive 2;
}
upstream hashed {
    ip_hash;
    server 127.0.0.1:@{[$told->port]};
    server 127.0.0.1:@{[$told->port]};
}
quickblox_application chat {
    api %%API%%;
    application_id 92;
    auth_key wJHd4cQSxpQGWx5;
    auth_secret jyqGNhbGxkvBTgd;
    login gateway;
    password Canary-Gateway-Pw;
    zone chat 128k;
}
quickblox_application other {
    api %%API%%;
    application_id 93;
    auth_key authkey93;
    auth_secret Canary-Secret-93;
    zone chat;
}
log_subrequest on;
access_log logs/all.log all;

server {
    listen 127.0.0.1:%%PORT_0%%;
    listen 127.0.0.1:%%PORT_2%% ssl http2;
    ssl_certificate %%CERT%%;
    ssl_certificate_key %%KEY%%;
    quickblox_require any;
    proxy_set_header X-User \$quickblox_user_id;

    location \@named {
        proxy_pass @{[$told->url]};
    }
    location /from/ignored {
        quickblox chat;
        quickblox_on_expired /hang;
        proxy_ignore_client_abort on;
        proxy_pass %%BACKEND%%;
    }
    $locations
}
END
}

# A variable that this nginx has none of is the first that it tells of.
my $format;
{
    my ($ok, $said);

    while (1) {
        $format = format_of(@variables);
        ($ok, $said) = $t->test_config(configuration($format));
        my ($name) = $said =~ /unknown "(\w+)" variable/ or last;
        @variables = grep { $_ ne $name } @variables;
    }

    ok $ok, 'a configuration with all variables' or diag $said;
    cmp_ok scalar(@variables), '>', 100, 'of which there are many';
}

my $nginx = $t->nginx(configuration($format));

my $user = 200;

# A session that has expired, which no upstream has told of yet: its user and
# token.
sub dead ($path) {
    my $id = $user++;
    my $token = $api->session(user_id => $id);

    is $t->get($path, token => $token)->status, 200, "$path: a session";
    $api->expire($token);

    return ($id, $token);
}

sub hits ($id) {
    return scalar grep { ($_->header('X-User') // '') eq $id }
        $told->requests;
}


# Every kind of location

my %id;

for my $name (sort keys %target) {
    next if $name eq 'hang';

    my ($id, $token) = dead("/from/$name");
    my $start = time;

    $id{$name} = $id;
    is $t->get("/from/$name", token => $token)->status, 401,
        "$name: has expired";
    cmp_ok time - $start, '<', 5, "$name: told without delay";
    fastcgi($id) if $name eq 'fastcgi';
}

# Waits for its process: FastCGI's params are as they are sent.
sub fastcgi ($id) {
    my $ready = '';
    vec($ready, fileno $fastcgi, 1) = 1;
    ok select($ready, undef, undef, 10), 'fastcgi: it is called';

    my $client = $fastcgi->accept;
    my $input = '';

    while ($input !~ /\x01\x05\0\x01\0\0/) {
        sysread $client, my $bytes, 65536 or last;
        $input .= $bytes;
    }

    like $input, qr/QB_USER$id/, 'fastcgi: with variables';
    like $input, qr/QB_TOKEN\(\)/, 'fastcgi: and no token';

    my $out = "Status: 204\r\n\r\n";
    print $client pack('CCnnCC', 1, 6, 1, length $out, 0, 0), $out,
        pack('CCnnCCNCxxx', 1, 3, 1, 8, 0, 0, 0, 0);
    close $client;

    return;
}

for my $name (@reaches, qw(named rewritten)) {
    next if $name eq 'hang';
    $t->wait_for(sub { hits($id{$name}) }, "call of $name");
    is hits($id{$name}), 1, "$name: reaches its upstream";
}

{
    my ($protected) = grep { $_->{path} eq '/protected' } $told->requests;
    is $protected->header('QB-Token'), undef,
        'a location of the same application injects nothing';

    my ($other) = grep { $_->{path} eq '/other' } $told->requests;
    is $other->header('QB-Token'), undef, 'nor does one of another';

    my ($post) = grep { $_->{path} eq '/post' } $told->requests;
    is $post->{body}, $id{post}, 'a method and a body can be set';
}

# What limit_req delays is told later, and what it refuses is not.
{
    my @ids;

    for my $name (qw(limited limited limited limited_hard)) {
        my ($id, $token) = dead("/from/$name");
        is $t->get("/from/$name", token => $token)->status, 401,
            "$name: has expired";
        push @ids, $id;
    }

    $t->wait_for(sub { hits($ids[2]) }, 'delayed call');
    is_deeply [map { hits($_) } @ids], [1, 1, 1, 0], 'limit_req applies';
}


# It delays no client

for my $protocol ('HTTP/1.1', 'HTTP/2') {
    my ($id, $token) = dead('/from/hang');
    my @answers;

    $told->answer('/hang', hold => 1);

    if ($protocol eq 'HTTP/2') {
        my $port = $t->port(2);
        my $run = $t->curl('--http2', '--cacert', $t->ca, '-H',
            "QB-Token: $token", '-o', '/dev/null', '-o', '/dev/null', '-w',
            '%{http_code} %{num_connects} %{time_total}\n',
            map { "https://127.0.0.1:$port/from/$_" } qw(hang ok));
        @answers = map { [split / /] } split /\n/, $run->{stdout};

    } else {
        my $client = $t->client;

        for my $path (qw(/from/hang /from/ok)) {
            my $start = time;
            my $status = $client->get($path, token => $token)->status;
            push @answers, [$status, @answers ? 0 : 1, time - $start];
        }
    }

    is_deeply [map { [@$_[0, 1]] } @answers], [[401, 1], [401, 0]],
        "$protocol: two answers on one connection";
    cmp_ok $_->[2], '<', 5, "$protocol: at once" for @answers;

    $told->wait_held(1);
    is $told->held, 1, "$protocol: while the listener hangs";
    $told->release;
    $told->heal;
}


# The client goes away

{
    my ($id, $token) = dead('/from/hang');
    $told->answer('/hang', hold => 1);

    my $client = $t->client;
    is $client->get('/from/hang', token => $token)->status, 401,
        'a client that has its answer';
    $client->abort;
    $told->wait_held(1);
    $told->release;
    $told->heal;
    is hits($id), 1, 'goes away: it is told';
}

{
    my ($id, $token) = dead('/from/ignored');

    $backend->answer('/from/ignored', hold => 1, status => 401,
        body => '{"errors":{"base":["Required session does not exist"]}}');
    my $client = $t->start(path => '/from/ignored', token => $token);
    $backend->wait_held(1);
    $client->abort;
    $backend->release;
    $backend->heal;
    $t->wait_for(sub { hits($id) }, 'call');
    is hits($id), 1, 'one that went before the upstream answered: it is told';
}

{
    my ($id, $token) = dead('/from/hang');

    $backend->answer('/from/hang', hold => 1, status => 401,
        body => '{"errors":{"base":["Required session does not exist"]}}');
    my $client = $t->start(path => '/from/hang', token => $token);
    $backend->wait_held(1);
    $client->abort;
    $nginx->wait_log(qr/prematurely closed connection, so upstream/);
    $backend->release;
    $backend->heal;
    is $t->get('/from/hang', token => $token)->status, 401,
        'the next request finds out what that one did not';
    $t->wait_for(sub { hits($id) }, 'call');
    is hits($id), 1, 'and it is told once';
}


# The log: $remote_addr and others are of nobody

{
    my @lines = grep { /uri="\\?\/internal"/ }
        split /\n/, $t->read("$nginx->{name}/logs/all.log");
    my ($line) = grep { /quickblox_user_id="$id{internal}"/ } @lines;

    ok $line, 'a line of the access log, for log_subrequest';
    like $line, qr/ remote_addr="unix:"/, 'of no address';
    like $line, qr/ remote_port="" .*request="" /, 'nor port nor request';
    like $line, qr/quickblox_token="" /, 'nor token';
    like $line, qr/quickblox_session_source="client" /, 'of a session';
    like $line, qr/upstream_status="200" /, 'and of what the listener said';
}


# Reload and end, with a listener under way

{
    my ($id, $token) = dead('/from/hang');
    $told->answer('/hang', hold => 1);
    is $t->get('/from/hang', token => $token)->status, 401, 'before a reload';
    $told->wait_held(1);
    my %old = map { $_ => 1 } $nginx->workers;

    ok $nginx->reload(undef, keep => 1), 'a reload';
    ok scalar(grep { $old{$_} } $nginx->workers(all => 1)),
        'the old worker waits for the listener';
    $told->release;
    $told->heal;
    $t->wait_for(sub { !grep { $old{$_} } $nginx->workers(all => 1) },
        'end of the old worker');
    is hits($id), 1, 'and ends then';
}

{
    my ($id, $token) = dead('/from/hang');
    $told->answer('/hang', hold => 1);
    is $t->get('/from/hang', token => $token)->status, 401, 'before QUIT';
    $told->wait_held(1);
    $nginx->signal('QUIT');
    $nginx->wait_log(qr/gracefully shutting down/);
    $told->release;
    $told->heal;
    ok $nginx->stop, 'nginx ends when the listener has';
}

{
    my $second = $t->nginx(configuration($format),
        main => 'worker_shutdown_timeout 200ms;');
    my ($id, $token) = dead('/from/hang');

    $told->answer('/hang', hold => 1);
    is $t->get('/from/hang', token => $token)->status, 401,
        'before worker_shutdown_timeout';
    $told->wait_held(1);
    ok $second->stop, 'which ends a listener, too';
    $told->release;
    $told->heal;
}

{
    my $third = $t->nginx(configuration($format));
    my ($id, $token) = dead('/from/hang');

    $told->answer('/hang', hold => 1);
    is $t->get('/from/hang', token => $token)->status, 401, 'before TERM';
    $told->wait_held(1);
    $third->signal('TERM');
    $t->wait_for(sub { !$third->running }, 'end of nginx');
    ok !$third->running, 'which ends all at once';
    $told->release;
    $told->heal;
}

$t->done;
