. /trial/common.sh
. /trial/remote-cards.sh
say debian "$(cat /etc/debian_version)"
say kernel "$(uname -r)"
say systemd "$(systemctl --version | sed -n 's/^systemd [0-9]* (\(.*\))/\1/p')"
say enforces "$(cat /sys/module/apparmor/parameters/enabled)"
say apparmor-version "$(dpkg-query -W -f '${Version}' apparmor)"

# As the page says, in the running system: the installation, then the doctor.
cd /trial/before
does sh -c "$(head -n 1 /trial/page.install)"
say bus "$(on_the_bus)"
say doctor "$(sh -c "$(tail -n +2 /trial/page.install)" 2>&1 && echo 'ended with 0')"
say port-after-installation "$(port_135)"
say socket-after-installation "$(systemctl is-enabled cardea-tpmvsc.socket || true)"
say versions "$(versions)"
say apparmor "$(confined)"

# Alice is made an administrator, and makes a card for Bob.
useradd --create-home alice
useradd --create-home bob
say before "$(as alice cardea card create --name Bob --owner bob --no-puk --pin-file /trial/pin 2>&1 ||
    echo "ended with $?")"
does sh -e /trial/page.administrator
does as alice cardea card create --name Bob --owner bob --no-puk --pin-pad --reader always --pin-file /trial/pin
does as bob cardea key generate Bob --algorithm rsa-2048 --label ssh --pin-file /trial/pin
install -d -o bob -m 700 /home/bob/.ssh
as bob cardea key export-public Bob ssh --format ssh >/home/bob/.ssh/authorized_keys
as bob cardea key export-public Bob ssh >/var/lib/bob.pem
say owner "$([ "$(member owner)" = "$(id -u bob)" ] && echo bob)"

# The reader.
say reader "$(in_the_reader)"
say by-reader "$(signs opensc-pkcs11.so)"
say by-module "$(as bob env at=/home/bob sh -c '. /trial/common.sh; signs "$(module)"')"

# The module, with the PIN typed into the agent's dialog.
does systemctl start ssh
agent
say signed-in "$(sign_in)"
say dialog "$(tr -cd '[:print:]' </run/screen)"
say tries "$(tries)"

# What the doctor advises is done as it says, by somebody who does not ask for a confirmation. OpenSC's module, which is
# the judge of the reader in the next start, leaves the reader alone then.
cd /root
cp /etc/opensc/opensc.conf /run/opensc.conf
cardea doctor | sed -n 's/^    //p' | sed 's/^cardea tpm provision /&--yes /' >/run/advice
does sh -e /run/advice
say healthy "$(cardea doctor && echo 'ended with 0')"
cp /run/opensc.conf /etc/opensc/opensc.conf

remote_cards
say denied "$(denied)"
say failed "$(failed)"
say end yes
