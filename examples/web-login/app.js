// Log in, see who I am, call the protected API, log out.  The session is in a
// cookie that no script can read, so the page asks /me whether there is one.

'use strict';

const find = id => document.getElementById(id);

let busy = false;
let retry = 0;


// Status 0: no answer came.

async function ask(method, path, data) {
    const options = { method, cache: 'no-store' };

    if (data) {
        options.headers = { 'Content-Type': 'application/json' };
        options.body = JSON.stringify(data);
    }

    try {
        const response = await fetch(path, options);
        const text = await response.text();

        return {
            status: response.status,
            statusText: response.statusText,
            retryAfter: Number(response.headers.get('Retry-After')) || 0,
            text,
            json: parse(text)
        };
    } catch {
        return { status: 0, retryAfter: 0, text: '', json: null };
    }
}

function parse(text) {
    try {
        return JSON.parse(text);
    } catch {
        return null;
    }
}

// What went wrong, for a person.
function trouble({ status, retryAfter, json }) {
    const later = retryAfter
        ? `Try again in ${retryAfter} second${retryAfter === 1 ? '' : 's'}.`
        : 'Try again in a moment.';

    switch (status) {
    case 0:
        return 'No answer came. Are you connected? ' + later;
    case 429:
        return 'Too many attempts. ' + later;
    case 502:
    case 503:
    case 504:
        return 'The service is not available. ' + later;
    }

    // {"errors":["…"]} or {"errors":{"base":["…"]}}
    const said = Object.values(json?.errors ?? {}).flat().join(' ');

    return said ? `This did not work: ${said}`
        : `This did not work (status ${status}).`;
}

function say(text, isError = false) {
    find('message').textContent = text;
    find('message').classList.toggle('error', isError);
}


// The two views

function show(heading, view) {
    document.title = heading;
    find('heading').textContent = heading;
    find('login-form').hidden = view !== 'login';
    find('session').hidden = view !== 'session';
    find('password').value = '';
    find('answer').hidden = true;
    find('answer').textContent = '';
    mark(false);
}

function showLogin() {
    show('Log in', 'login');
    find('login').focus();
}

function showSession(session) {
    const expires = new Date(session.expires_at * 1000);

    find('user').textContent = session.user_id;
    find('application').textContent = session.application_id;
    find('expires').dateTime = expires.toISOString();
    find('expires').textContent = expires.toLocaleTimeString([],
        { hour: '2-digit', minute: '2-digit' });

    show('You are logged in', 'session');
    find('heading').focus();
}

function mark(isInvalid) {
    for (const id of ['login', 'password']) {
        if (isInvalid) {
            find(id).setAttribute('aria-invalid', 'true');
        } else {
            find(id).removeAttribute('aria-invalid');
        }
    }
}

function ended() {
    showLogin();
    say('Your session has ended. Please log in again.', true);
}


// What a person does.  One thing at a time: the buttons stay enabled, as a
// disabled one would lose the focus.

async function once(action) {
    if (busy) {
        return;
    }

    clearTimeout(retry);
    busy = true;
    find('main').setAttribute('aria-busy', 'true');
    say('');

    try {
        await action();
    } finally {
        busy = false;
        find('main').removeAttribute('aria-busy');
    }
}

async function check() {
    const me = await ask('GET', '/me');

    if (me.status === 200 && me.json?.session) {
        showSession(me.json.session);

    } else if (me.status === 401) {
        showLogin();

    } else {
        // Nobody knows whether there is a session: look again.
        show('One moment', 'none');
        say(trouble(me), true);
        retry = setTimeout(() => once(check),
            1000 * Math.min(me.retryAfter || 5, 60));
    }
}

async function login() {
    const name = find('login').value.trim();

    const res = await ask('POST', '/login', {
        [name.includes('@') ? 'email' : 'login']: name,
        password: find('password').value
    });

    if (res.status === 200 && res.json?.session) {
        showSession(res.json.session);
        return;
    }

    const isWrong = res.status === 401;

    mark(isWrong);
    say(isWrong ? 'Wrong login or password.' : trouble(res), true);

    if (isWrong) {
        find('password').select();
        find('password').focus();
    }
}

async function call() {
    const res = await ask('GET', find('path').value);

    if (res.status === 401) {
        ended();
        return;
    }

    const isGood = res.status >= 200 && res.status < 300;

    say(isGood ? 'The API has answered.' : trouble(res), !isGood);

    find('answer').hidden = res.status === 0;
    find('answer').textContent = `${res.status} ${res.statusText}\n\n`
        + (res.json ? JSON.stringify(res.json, null, 2) : res.text);
}

async function logout() {
    const res = await ask('POST', '/logout');

    if (res.status === 200) {
        showLogin();
        say('You are logged out.');

    } else {
        say(trouble(res), true);
    }
}

const actions = { 'login-form': login, 'api-form': call,
    'logout-form': logout };

for (const [id, action] of Object.entries(actions)) {
    find(id).addEventListener('submit', event => {
        event.preventDefault();
        once(action);
    });
}

// The way back leads to the page as it was left, perhaps before a logout.
addEventListener('pageshow', event => {
    if (event.persisted) {
        once(check);
    }
});

find('login-form').hidden = true;
once(check);
