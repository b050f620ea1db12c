# The login page of examples/web-login, with its own configuration, in
# Debian's Chromium over TLS: people log in, reload, call the API, log out,
# are told of what went wrong; the token is nowhere in the browser.  No
# password window opens over a page.

use strict;
use warnings;
use feature 'signatures';
no warnings 'experimental::signatures';
use lib 't/lib';

use Docs;
use Gateway;
use Mojo::JSON qw(encode_json);
use Node;
use Test::More;

my $t = Gateway->new;
my $api = $t->api(tls => $t->cert(names => ['api.quickblox.com']));
my $backend = $t->backend(check => $api, private => '/api/');
my ($page, $other) = map { 'https://127.0.0.1:' . $t->port($_) . '/' } 0, 1;

$t->secret('Canary-Wrong-Pw');
mkdir $t->dir . '/shots';

$backend->answer('/api/missing', status => 404, body => 'no such thing');
$backend->answer('/api/busy', status => 503, headers => [['Retry-After', 7]]);

# Another origin of the same host, and what else the example has nothing of.
my $more = <<'END';
map $http_referer $from {
    default                                  itself;
    ~^https://127\.0\.0\.1:%%PORT_1%%/       'another origin';
}

map $http_cookie $with {
    default                nothing;
    ~__Host-quickblox=.    'a cookie';
}

log_format seen '$request_method $uri $status from $from with $with';
access_log %%DIR%%/nginx/access.log seen;

server {
    listen 127.0.0.1:%%PORT_1%% ssl;
    ssl_certificate %%CERT%%;
    ssl_certificate_key %%KEY%%;
    access_log off;
    default_type text/html;

    location = / {
        return 200 '<!DOCTYPE html><title>Another page</title>';
    }

    location = /favicon.ico {
        return 204;
    }

    location /basic/ {
        quickblox chat;
        quickblox_session basic;
        proxy_pass %%BACKEND%%;
    }
}
END

$t->nginx(Docs::http($t, Docs::slurp('examples/web-login/nginx.conf'),
    api => '127.0.0.1:' . $api->tls_port,
    backend => '127.0.0.1:' . $backend->port) . $more,
    env => {SSL_CERT_FILE => $t->ca});
$t->secret($t->read('cookie_key') =~ s/\n//r);

my $seen = Node::seen($t, 't/browser/page.js', {
    page => $page,
    other => $other,
    control => "http://127.0.0.1:$api->{control}",
    shots => $t->dir . '/shots',
    chromium => Node::program('chromium'),
});

ok $seen, 'all was tried';

if ($seen) {
    logs_in($seen->{first});
    calls($seen->{first});
    ends($seen->{first});
    logs_out($seen->{first});
    troubles($seen->{first});
    looks($seen->{first});
    hides_the_token($seen);
    is_of_one_origin($seen);
    complains_of_nothing($seen);
    works_without_script($seen->{withoutScript});
    keeps_its_policy($seen->{policy});
    opens_no_window($seen->{basic});
}

$t->done;


# What is to be seen on the page: the fields of state() in t/browser/page.js.
sub shows ($name, $state, %want) {
    my %got = map { $_ => plain($state->{$_}) } keys %want;

    is_deeply \%got, \%want, $name or diag explain $state;

    return;
}

sub plain ($value) { return ref $value ? $value ? 1 : 0 : $value }

sub logged_in ($user, %more) {
    return (heading => 'You are logged in', title => 'You are logged in',
        session => 1, login => 0, user => $user, application => 92,
        password => '', message => '', isError => 0, %more);
}

sub logged_out (%more) {
    return (heading => 'Log in', title => 'Log in', session => 0, login => 1,
        password => '', answer => '', focus => 'login', message => '',
        invalid => undef, isError => 0, %more);
}

sub refused ($message, %more) {
    return (session => 0, login => 1, message => $message, isError => 1,
        %more);
}

sub logs_in ($first) {
    shows('the page: nobody is logged in', $first->{opened}, logged_out());
    is $first->{status}, 'message', 'its messages are read aloud';

    shows('a wrong password', $first->{wrong},
        refused('Wrong login or password.', invalid => 'true',
            focus => 'password'));
    is_deeply $first->{wrongCookies}, [], 'no cookie';

    shows('by the keyboard: logged in', $first->{in},
        logged_in(5, focus => 'heading', answer => ''));

    my $left = $first->{in}{expires} - time;
    ok $left > 7200 - 120 && $left < 7200 + 60, 'it says until when'
        or diag $left;

    my ($cookie, @more) = @{$first->{inCookies}};
    my %flags = map { $_ => plain($cookie->{$_}) }
        grep { $_ ne 'value' } keys %$cookie;
    is_deeply [\%flags, scalar @more], [{name => '__Host-quickblox',
        domain => '127.0.0.1', path => '/', secure => 1, httpOnly => 1,
        sameSite => 'Lax', expires => -1}, 0], 'T30: the cookie';

    shows('reloaded: still logged in', $first->{reloaded}, logged_in(5));
    shows('another tab: logged in, too', $first->{otherTab}, logged_in(5));
    shows('with an email', $first->{email}, logged_in(5));
    shows('as somebody else', $first->{again}, logged_in(6));

    return;
}

sub calls ($first) {
    my %answered = (message => 'The API has answered.');

    shows('the API is called', $first->{called}, logged_in(5, %answered,
        answer => $first->{called}{answer}));
    like $first->{called}{answer}, qr{\A200\ OK\n\n\{.*
        "uri":\ "/api/hello"}sx, 'its answer is shown';

    my $request = $backend->last_request('/api/hello');
    like $request->header('QB-Token'), qr/^[0-9a-f]{40}$/,
        'the API gets a token';
    is $request->header('X-User-Id'), 5, 'and the user';
    is $request->header('Cookie'), undef, 'T59: and no cookie';

    is_deeply [$t->access_log =~ /^(.* from another origin .*)$/mg],
        [map { "$_ 403 from another origin with a cookie" }
            'POST /api/foreign', 'POST /logout', 'GET /me'],
        'T51: pages of another origin are refused, cookie and all';
    is $backend->hits('/api/foreign'), 0, 'T51: the API is not called';
    shows('T51: and nobody is logged out', $first->{still},
        logged_in(5, %answered));

    return;
}

sub ends ($first) {
    shows('the session has ended: the form', $first->{ended}, logged_out(
        message => 'Your session has ended. Please log in again.',
        isError => 1));
    is_deeply $first->{endedCookies}, [], 'the cookie is cleared';

    my ($ended) = grep { $_->{url} =~ m{/api/ended$} } @{$seen->{exchanges}};
    is_deeply [grep { /^set-cookie:/i && !/__Host-quickblox=; Max-Age=0;/ }
        @{$ended->{answered}}], [], 'and the API sets none';

    return;
}

sub logs_out ($first) {
    shows('logged out', $first->{out},
        logged_out(message => 'You are logged out.'));
    is_deeply $first->{outCookies}, [], 'the cookie is gone';

    my $none = [401, encode_json({errors => ['Token is required']})];
    is_deeply $first->{outMe}, $none, '/me: nobody';
    is_deeply $first->{outCall}, $none, 'the API refuses';

    is_deeply $first->{oldCall}, [401, encode_json({errors =>
        {base => ['Required session does not exist']}})],
        'and the old cookie, too';
    is_deeply $first->{oldCookies}, [], 'which is cleared';
    is $backend->hits("/api/$_"), 0, "$_: the API is not called"
        for qw(out old);

    shows('reloaded: nobody', $first->{outReloaded}, logged_out());
    shows('back in the history: nobody', $first->{back}, logged_out());

    return;
}

sub troubles ($first) {
    shows('404 of the API', $first->{missing}, logged_in(5, isError => 1,
        message => 'This did not work (status 404).',
        answer => "404 Not Found\n\nno such thing"));
    shows('503 of the API', $first->{busy}, logged_in(5, isError => 1,
        message => 'The service is not available. Try again in 7 seconds.'));
    shows('no network', $first->{offline}, logged_in(5, isError => 1,
        message => 'No answer came. Are you connected? '
            . 'Try again in a moment.', answer => ''));

    shows('nobody knows', $first->{unsure}, session => 0, login => 0,
        isError => 1, heading => 'One moment', message =>
            'The service is not available. Try again in 3 seconds.');
    shows('until somebody does', $first->{sureAgain}, logged_in(5));

    like $first->{down}{message},
        qr/^The service is not available\. Try again in \d+ seconds?\.$/,
        'QuickBlox is down';
    shows('nobody is logged in', $first->{down},
        refused($first->{down}{message}, invalid => undef));
    shows('until it is back', $first->{healed}, logged_in(5));

    shows('too many attempts', $first->{limited},
        refused('Too many attempts. Try again in a moment.'));

    return;
}

# Contrasts are those of WCAG 2.2, AA; so is more than the size of targets.
sub looks ($first) {
    my %background;

    for (qw(lightLogin lightSession darkLogin darkSession)) {
        my $looks = $first->{$_};

        cmp_ok $looks->{texts}, '>=', 4, "$_: there is text";
        cmp_ok $looks->{contrast}, '>=', 4.5, "$_: can be read";
        cmp_ok $looks->{height}, '>=', 44, "$_: can be touched";
        cmp_ok $looks->{font}, '>=', 16, "$_: no phone zooms in";
        cmp_ok $looks->{overflow}, '<=', 0, "$_: fits the screen";
        is $looks->{unnamed}, 0, "$_: each field has a label";
        $background{$looks->{background}} .= " $_";
    }

    is_deeply [sort values %background],
        [' darkLogin darkSession', ' lightLogin lightSession'],
        'light by day, dark by night';

    for (qw(wrong session session-dark-phone ended-dark-phone)) {
        my $image = $t->read("shots/$_.png");
        like $image, qr/\A\x89PNG/, "$_: a picture";
        cmp_ok length $image, '>', 5_000, "$_: that shows something";
    }

    return;
}

sub hides_the_token ($seen) {
    my @tokens = grep { /^[0-9a-f]{40}$/ } $api->secrets;
    my %mine = map { $_ => 1 } @tokens;
    my ($used) = $backend->last_request('/api/hello')->header('QB-Token');

    cmp_ok scalar(@tokens), '>=', 4, 'there were sessions';
    ok $mine{$used}, 'with tokens that are known here';

    my $any = join '|', @tokens;
    my %text = (
        'document.cookie, storage or page' => $seen->{places},
        'console' => [map { $_->{text} } @{$seen->{errors}}],
        'request' => [map { ($_->{url}, @{$_->{asked}}) }
            @{$seen->{exchanges}}],
        'header' => [map { @{$_->{answered}} } @{$seen->{exchanges}}],
        'body' => [grep { defined } map { $_->{body} }
            @{$seen->{exchanges}}],
    );

    for my $where (sort keys %text) {
        my @text = @{$text{$where}};
        ok @text, "$where: there is something";
        is scalar(grep { /$any/ } @text), 0, "$where: without a token";
    }

    # JSON: the cookie first, then what is stored.
    my @odd = grep { !/\A\["",\{\},\{\},\[\],\[\],/ } @{$seen->{places}};
    is_deeply \@odd, [], 'scripts see no cookie, and nothing is stored';

    # A script cannot read what is not modified or of another origin.
    my @unread = grep { !defined $_->{body} && $_->{status} != 304
        && "@{$_->{asked}}" !~ /referer: \Q$other\E/i }
        @{$seen->{exchanges}};
    is_deeply [map { $_->{url} } @unread], [], 'every body was looked at';

    return;
}

sub is_of_one_origin ($seen) {
    my @urls = map { $_->{url} } @{$seen->{exchanges}};

    is_deeply [grep { !m{^(?:\Q$page\E|\Q$other\E)} } @urls], [],
        'nothing is loaded from elsewhere';

    my %parts = map { $_ => 1 } grep { !m{^(?:api/|me$|login$|logout$)} }
        map { m{^\Q$page\E(.*)} ? $1 : () } @urls;
    is_deeply [sort keys %parts], ['', 'app.js', 'style.css'],
        'the page has three parts';

    my @answers = grep { index($_->{url}, $page) == 0
        && grep { /^server: nginx/i } @{$_->{answered}} }
        @{$seen->{exchanges}};
    my @safe = grep {
        my $headers = lc join "\n", '', @{$_->{answered}};
        $headers =~ /\ncontent-security-policy: default-src 'none';/
            && $headers =~ /\nx-content-type-options: nosniff/;
    } @answers;

    cmp_ok scalar(@answers), '>=', 50, 'there were answers';
    is scalar(@safe), scalar(@answers), 'a policy on each of them';

    return;
}

# A browser itself writes down each answer that is none.
sub complains_of_nothing ($seen) {
    my %known = map { $_ => 1 } '401 me', '401 login', '403 api/foreign',
        '403 logout', '403 me', '404 api/missing', '503 api/busy',
        'net::ERR_INTERNET_DISCONNECTED api/never', '503 me',
        '401 api/ended', '401 api/out', '401 api/old', '503 login',
        '400 login', '429 login';

    my @unknown = grep {
        my ($what) = $_->{text} =~ /^Failed\ to\ load\ resource:\ (?:the
            \ server\ responded\ with\ a\ status\ of\ )?(\S+)/x;
        my ($path) = $_->{url} =~ m{^\Q$page\E(.*)};
        !$known{join ' ', map { $_ // '' } $what, $path};
    } @{$seen->{errors}};

    is_deeply \@unknown, [], 'no other complaint in the console';

    return;
}

sub works_without_script ($seen) {
    is_deeply $seen->{login}, [303, '/'],
        'without JavaScript: the login leads back';
    is_deeply [@{$seen->{me}{session}}{qw(user_id type)}], [6, 'user'],
        'without JavaScript: logged in';

    return;
}

sub keeps_its_policy ($seen) {
    is_deeply [map { plain($_) } @$seen{qw(isInjected fetched)}], [0, 'no'],
        'the policy is in force';
    isnt $seen->{color}, 'rgb(1, 2, 3)', 'for styles as well';
    is_deeply $seen->{violations},
        ['script-src-elem', 'style-src-attr', 'connect-src'],
        'and says so';

    return;
}

# T68: [what came, how often a person would have been asked].
sub opens_no_window ($seen) {
    my $quickblox = [401, 'QuickBlox realm="chat"'];

    is_deeply $seen->{scripts},
        [[$quickblox, $quickblox, $quickblox, 'refused'], 0],
        'T68: no password window for scripts and images';
    is_deeply $seen->{cancelled},
        [[401, 'Basic realm="chat", charset="UTF-8"'], 1],
        'T68: but for a person who opens the address';
    is_deeply $seen->{entered}, [[200, undef], 1],
        'T68: who logs in';
    is_deeply $seen->{fetched}, [200, 0], 'T68: as the scripts then are';

    return;
}
