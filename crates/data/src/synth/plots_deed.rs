//! Plots about doing: losing and finding, daring, helping, building, racing, waiting, weathering.

use super::scene::Scene;

/// Something is lost for a reason, and the reason tells where it is.
pub(super) fn lost(s: &mut Scene) {
    s.open(&["careless", "cheerful", "lively", "playful"]);
    match s.pick(&[0, 1, 2, 3]) {
        0 => {
            s.day(&["windy"]);
            let thing = s.pick(&["hat", "scarf", "kite", "paper boat"]);
            s.set("thing", thing);
            s.set("how", "a strong wind came and blew the {thing} away");
            s.set("clue", "Where does the wind go?\" asked {f}. They followed the flying leaves");
            s.set("spot", "high up in a tree");
            s.set("get", "{f} shook the tree until the {thing} fell down");
        }
        1 => {
            s.day(&["sunny", "cloudy"]);
            let thing = s.pick(&["ring", "key", "whistle", "bell", "coin"]);
            s.set("thing", thing);
            s.set("how", "the {thing} fell through a hole in {his} pocket");
            s.set(
                "clue",
                "Look, there is a hole in your pocket!\" said {f}. They walked back along the path",
            );
            s.set("spot", "in the grass between two stones");
            s.set("get", "{h} saw it shine and picked it up");
        }
        2 => {
            s.day(&["sunny", "cloudy", "rainy"]);
            let thing = s.pick(&["ball", "shoe", "doll", "teddy bear"]);
            s.set("thing", thing);
            s.set("how", "a puppy took the {thing} and ran off with it");
            s.set(
                "clue",
                "I see small paw prints!\" said {f}. They followed the prints in the mud",
            );
            s.set("spot", "in the puppy's bed");
            s.set("get", "{f} gave the puppy a bone, and it let go of the {thing}");
        }
        _ => {
            s.day(&["sunny", "foggy"]);
            let thing = s.pick(&["basket", "book", "drum", "lantern"]);
            s.set("thing", thing);
            s.set("how", "{he} put the {thing} down to pick berries and forgot all about it");
            s.set(
                "clue",
                "Your hands are red from berries!\" said {f}. They went back to the berry bush",
            );
            s.set("spot", "under the leaves of the bush");
            s.set("get", "{h} pulled it out and brushed off the dirt");
        }
    }
    s.say(&[
        "{^his} favorite thing in the world was {a color} {thing}.",
        "{g} had given {him} {a color} {thing}, and {he} took it everywhere.",
        "{^he} had {a color} {thing} that {he} loved very much.",
    ]);
    s.say(&["{day}, {h} took it to {place}.", "{day}, {h} went out to play {at}."]);
    s.maybe_weather();
    s.say(&["But {how}.", "While {he} was there, {how}.", "Then {how}."]);
    s.say(&[
        "{h} looked here and there, but the {thing} was gone.",
        "\"Where is my {thing}?\" cried {h}. {^he} looked everywhere.",
        "When {he} wanted to go home, {he} could not find the {thing}, and {he} began to cry.",
    ]);
    s.say(&[
        "{^ffull} heard {him}. \"Do not cry. I will help you look,\" said {f}.",
        "Just then {ffull} came by. \"Let us look for it together,\" said {f}.",
        "{^ffull} saw that {he} was sad and wanted to help. \"Let us think,\" said {f}.",
    ]);
    s.say(&[
        "They sat down to think.",
        "{h} told {fhim} how it had happened.",
        "They thought about it for a while.",
    ]);
    s.say(&["\"{clue} and looked at every spot."]);
    s.say(&[
        "And there was the {color} {thing}, {spot}! {get}.",
        "At last they found the {thing} {spot}. {get}.",
        "\"There it is!\" shouted {h}. The {thing} was {spot}. {get}.",
    ]);
    s.say(&[
        "{h} was so glad that {he} danced in a circle. \"Thank you, {f}!\" {he} said.",
        "\"You are a true friend,\" said {h} and hugged {f}.",
        "{h} held the {thing} tight and did not let go until {he} was home.",
    ]);
    s.say(&[
        "After that, {h} took better care of {his} things. And {he} knew that two pairs of eyes see more than one.",
        "{h} learned to look after what {he} loved, and to ask a friend for help.",
        "That night {h} thought, \"I found my {thing}, but I found a good friend too.\"",
    ]);
}

/// A fear, a reason to face it, and a way to do it.
pub(super) fn fear(s: &mut Scene) {
    s.open(&["cheerful", "gentle", "clever", "kind"]);
    let (fear, weather, call, advice, deed, after) = s.pick(&[
        (
            "the dark",
            "cloudy",
            "{ffull} had dropped {fhis} {toy} in the dark cellar and was crying",
            "The dark is only a room with its eyes closed",
            "took a little lamp and went down the steps, one by one",
            "There were no monsters in the cellar, only {a color} {toy} and a sleepy spider",
        ),
        (
            "deep water",
            "sunny",
            "a kitten had fallen into the river and could not get out",
            "Hold on to something strong, and breathe slowly",
            "held on to a branch, walked into the water and reached for the kitten",
            "The water came up to {his} chest, but no higher, and the kitten was safe",
        ),
        (
            "high places",
            "sunny",
            "a baby bird sat on the roof and could not fly home",
            "Do not look down, look at where you want to go",
            "climbed up the ladder, step by step, and put the bird back in its nest",
            "From up there {he} could see the whole valley, and it was beautiful",
        ),
        (
            "thunder",
            "rainy",
            "a small dog was alone outside in the storm and shaking",
            "Thunder is only the clouds clapping their hands",
            "counted to three and ran through the rain to get the dog",
            "The thunder was loud, but it did not hurt, and the dog licked {his} face",
        ),
        (
            "big dogs",
            "sunny",
            "a big dog had its leg caught in a fence and cried with pain",
            "A dog can feel if you are calm",
            "talked in a soft voice and opened the wire with slow hands",
            "The big dog did not bite. It wagged its tail and put its head on {his} knee",
        ),
        (
            "the old bridge",
            "foggy",
            "{ffull} was on the other side with a hurt foot and called for help",
            "Take one small step, and then one more",
            "held the rope and walked over the bridge, one small step after the other",
            "The bridge moved a little, but it held, and {f} was not alone any more",
        ),
    ]);
    s.set("fear", fear);
    s.set("call", call);
    s.set("advice", advice);
    s.set("deed", deed);
    s.set("after", after);
    s.day(&[weather]);
    s.say(&[
        "But {he} was afraid of {fear}.",
        "There was only one problem. {h} was afraid of {fear}.",
        "But nothing scared {him} more than {fear}.",
    ]);
    s.maybe(&[
        "When others laughed about it, {h} hid {his} face.",
        "{^he} never told anyone, because {he} was ashamed.",
    ]);
    s.say(&[
        "\"Everybody is afraid of something,\" {g} told {him}. \"{advice}.\"",
        "{g} knew about it and was kind. \"{advice},\" said {g}.",
        "One night {he} told {g}. \"I know a trick,\" said {g}. \"{advice}.\"",
    ]);
    s.say(&[
        "{day}, {h} heard a cry: {call}.",
        "{day}, something bad happened: {call}.",
        "{day}, {h} found out that {call}.",
    ]);
    s.maybe_weather();
    s.say(&[
        "Nobody else was there to help.",
        "There was no time to get {g}.",
        "{h} looked around, but {he} was the only one there.",
    ]);
    s.say(&[
        "{^his} legs were shaking, and {his} heart went boom, boom, boom.",
        "{h} wanted to run away. {^his} hands were cold.",
        "\"I cannot do it,\" {he} whispered.",
    ]);
    s.say(&[
        "Then {he} remembered the words of {g}. {^he} {deed}.",
        "But {he} thought of what {g} had said. {h} {deed}.",
        "\"I can be scared and still help,\" {he} said to {himself}. {^he} {deed}.",
    ]);
    s.say(&["{after}.", "It was over before {he} knew it. {after}."]);
    s.say(&[
        "\"You were so brave!\" said {g} in the evening.",
        "\"Weren't you afraid?\" asked {g} later. \"Yes,\" said {h}, \"but I did it.\"",
        "When {g} heard about it, {ghe} was very proud.",
    ]);
    s.say(&[
        "After that day, {h} was not so afraid of {fear}. To be brave is to do what is right even when you are scared.",
        "{h} still did not love {fear}, but now {he} knew that {he} was stronger than {his} fear.",
        "{h} smiled. A fear gets smaller when you walk up to it.",
    ]);
}

/// An animal in trouble is helped and helps in turn.
pub(super) fn helped_animal(s: &mut Scene) {
    s.open(&["kind", "gentle", "thoughtful", "good"]);
    s.day(&["sunny", "cloudy", "windy"]);
    let (animal, trouble, cure, danger, rescue) = s.pick(&[
        (
            "bird",
            "with a hurt wing",
            "tied the wing with a soft ribbon and gave it seeds",
            "{h} lost {his} way in the woods",
            "the bird flew ahead of {him} from tree to tree and showed {him} the way home",
        ),
        (
            "kitten",
            "stuck in a tall tree",
            "climbed up and carried it down in {his} coat",
            "mice came into the house and ate the bread",
            "the kitten chased every mouse away",
        ),
        (
            "bee",
            "in a cup of water",
            "lifted it out with a leaf and let it dry in the sun",
            "{h} wanted to bake but had no honey",
            "the bee led {him} to a tree that was full of honey",
        ),
        (
            "lamb",
            "caught in a thorn bush",
            "opened the thorns with great care and set it free",
            "{h} was cold at night",
            "the lamb led {him} to a barn full of warm straw and lay down beside {him}",
        ),
        (
            "turtle",
            "lying on its back in the hot sand",
            "turned it over and carried it to the water",
            "{h} dropped {his} {color} {toy} into the deep water",
            "the turtle dived down and brought it back",
        ),
        (
            "dog",
            "with a thorn in its paw",
            "pulled out the thorn and washed the paw",
            "{h} slipped and hurt {his} foot far from home",
            "the dog barked so loudly that {g} came and found {him}",
        ),
        (
            "butterfly",
            "caught in a spider's web",
            "opened the web with the tip of one finger",
            "{h} was sick in bed and very sad",
            "the butterfly danced at the window every day until {he} was well",
        ),
    ]);
    s.set("animal", animal);
    s.set("trouble", trouble);
    s.set("cure", cure);
    s.set("danger", danger);
    s.set("rescue", rescue);
    s.say(&[
        "{day}, {h} was walking {at} when {he} heard a soft noise.",
        "{day}, {h} was playing {at}. Suddenly {he} stopped.",
        "{day}, {h} and {ffull} went to {place}.",
    ]);
    s.maybe_weather();
    s.say(&[
        "There was {a animal} {trouble}.",
        "In front of {him} was {a animal} {trouble}. It looked very afraid.",
    ]);
    s.say(&[
        "\"We have no time for that,\" said somebody who went by. But {h} stopped.",
        "\"Poor little thing,\" said {h}. \"Do not be afraid. I will help you.\"",
        "\"Oh no! You need help,\" said {h} in a soft voice.",
    ]);
    s.say(&[
        "{^he} {cure}.",
        "Slowly and gently, {he} {cure}.",
        "{h} came closer, step by step. Then {he} {cure}.",
    ]);
    s.say(&[
        "The {animal} looked at {him} for a moment. Then it was gone.",
        "The {animal} looked at {h} as if it wanted to say thank you.",
        "\"Now go home and be well,\" said {h} to the {animal}.",
    ]);
    s.maybe(&[
        "At home, {he} told {g} about it. \"That was good of you,\" said {g}.",
        "{h} thought about the {animal} all evening.",
    ]);
    s.say(&[
        "Many days later, {danger}.",
        "A few weeks went by. Then {danger}.",
        "Then came a bad day: {danger}.",
    ]);
    s.say(&[
        "{^he} did not know what to do.",
        "\"Who can help me now?\" {he} said.",
        "{h} was very worried.",
    ]);
    s.say(&[
        "But who was that? It was the {animal}! And {rescue}.",
        "Then {he} heard a sound that {he} knew. The {animal} had come back, and {rescue}.",
    ]);
    s.say(&[
        "\"You remembered me!\" said {h} with a smile.",
        "\"Thank you, my friend,\" said {h}.",
        "\"I helped you, and now you helped me,\" said {h}.",
    ]);
    s.say(&[
        "From then on, {h} and the {animal} were friends. No kind deed is ever too small.",
        "{h} learned that kindness finds its way back.",
        "And {h} knew: whoever helps others is never alone.",
    ]);
}

/// Something is built, falls, and is built again in a better way.
pub(super) fn building(s: &mut Scene) {
    s.open(&["clever", "busy", "proud", "eager"]);
    let (thing, first, cause, weather, fix, proof) = s.pick(&[
        (
            "tree house",
            "thin sticks",
            "the wind shook the tree, and the sticks broke",
            "windy",
            "thick boards and long nails",
            "When the wind came back, the tree house did not move at all",
        ),
        (
            "bridge",
            "one long board",
            "{h} walked on it, and the board cracked in the middle",
            "sunny",
            "two strong logs and a rope",
            "They jumped on the bridge, and it held",
        ),
        (
            "raft",
            "dry grass",
            "the water of the pond came through, and the raft sank",
            "sunny",
            "light logs and strong rope",
            "The raft went over the water like a duck",
        ),
        (
            "tower",
            "round stones",
            "the top stone rolled, and the whole tower fell down",
            "cloudy",
            "flat stones, with the big ones at the bottom",
            "The tower stood so firm that a bird built its nest on it",
        ),
        (
            "snow house",
            "loose snow",
            "the roof fell on {his} head",
            "snowy",
            "hard blocks of snow",
            "Inside the snow house it was warm, and nothing fell down",
        ),
        (
            "hen house",
            "old boxes",
            "the rain made the boxes soft, and the hens got wet",
            "rainy",
            "good wood and a roof of straw",
            "The rain came again, but the hens stayed warm and dry",
        ),
    ]);
    s.set("thing", thing);
    s.set("first", first);
    s.set("cause", cause);
    s.set("fix", fix);
    s.set("proof", proof);
    s.day(&[weather]);
    s.say(&[
        "{day}, {h} wanted to build {a thing}.",
        "{day}, {h} had a plan. \"I will build the best {thing} ever!\" {he} said.",
        "{day}, {h} said, \"I will build {a thing} {at}.\"",
    ]);
    s.maybe_weather();
    s.say(&[
        "\"Can I help you?\" asked {ffull}. \"No, I can do it alone,\" said {h}.",
        "{^ffull} wanted to help. \"I do not need any help,\" said {h}.",
        "\"Two can build better than one,\" said {ffull}. But {h} did not listen.",
    ]);
    s.say(&[
        "{^he} worked very fast and used only {first}.",
        "{h} took {first}, because that was quick and easy.",
    ]);
    s.say(&[
        "At first it looked good. But then {cause}.",
        "\"It is done!\" {he} shouted. Just then, {cause}.",
        "{h} was proud, but not for long: {cause}.",
    ]);
    s.say(&[
        "{h} sat down on the ground and felt like crying.",
        "\"All my work was for nothing!\" {he} cried.",
        "{h} kicked the ground. {^he} was angry and sad.",
    ]);
    s.say(&[
        "{f} did not laugh. \"Let us find out why it fell,\" {fhe} said.",
        "{f} came over and sat next to {him}. \"We can try again,\" {fhe} said.",
        "\"I am sorry that I sent you away,\" said {h}. \"Will you help me now?\" \"Of course,\" said {f}.",
    ]);
    s.say(&[
        "This time they took {fix}. {f} held, and {h} tied.",
        "Together they found {fix}, and they worked slowly and with care.",
        "\"We need {fix},\" said {f}. They carried and pushed and pulled together.",
    ]);
    s.maybe(&[
        "{g} brought them {foods} to eat, and they sang while they worked.",
        "It took two whole days.",
    ]);
    s.say(&["At last the {thing} was done. {proof}.", "In the evening it was ready. {proof}."]);
    s.say(&["\"We did it!\" they shouted.", "\"It is our {thing},\" said {h}, and {f} smiled."]);
    s.say(&[
        "{h} learned that good work takes time, and that friends make it lighter.",
        "{h} had learned something: when you fall down, look why, and then try again.",
        "And {h} never again said no to a helping hand.",
    ]);
}

/// A contest, won by care or lost with honor.
pub(super) fn contest(s: &mut Scene) {
    s.open(&["proud", "quick", "eager", "lively"]);
    s.day(&["sunny", "cloudy", "windy"]);
    let (event, verb, train) = s.pick(&[
        ("race", "run", "ran up and down the hill"),
        ("singing contest", "sing", "sang to the birds"),
        ("baking contest", "bake", "baked one cake after another"),
        ("painting contest", "paint", "painted trees and clouds"),
        ("jumping contest", "jump", "jumped over logs and puddles"),
    ]);
    s.set("event", event);
    s.set("verb", verb);
    s.set("train", train);
    let prize = s.pick(&["a golden cup", "a silver medal", "a big cake", "a basket of fruit"]);
    s.set("prize", prize);
    s.say(&[
        "{day}, there was to be {a event} {at}. The prize was {prize}.",
        "{day}, {g} told {h} about {a event}. Whoever won would get {prize}.",
    ]);
    s.maybe_weather();
    if s.one_in(2) {
        s.say(&[
            "\"Nobody can {verb} like me,\" said {h}. \"I do not need to practice.\"",
            "\"I will win, because I am the best,\" said {h}, and {he} took a nap.",
        ]);
        s.say(&[
            "But {ffull} practiced every day. {f} {train}.",
            "{^ffull} said nothing. But every morning, {fhe} {train}.",
        ]);
        s.say(&[
            "When the day came, {h} laughed at {f}. \"You will lose,\" {he} said.",
            "On the big day, {h} was sure that {he} would win.",
        ]);
        s.say(&[
            "{h} began well. But soon {he} was tired, and then {he} made a mistake.",
            "{h} tried hard, but {he} had forgotten how much work it was.",
        ]);
        s.say(&[
            "{f} was calm and did {fhis} best. In the end, {f} won {prize}.",
            "Then it was {f}'s turn, and everybody clapped. {f} won {prize}!",
        ]);
        s.say(&[
            "{h} was angry at first. Then {he} saw how happy {f} was.",
            "{h} hid behind a tree and cried. But then {he} wiped {his} eyes.",
        ]);
        s.say(&[
            "{^he} went to {f} and said, \"You were better than me. You worked for it.\"",
            "\"Well done,\" {he} said to {f}. \"I am sorry that I laughed at you.\"",
        ]);
        s.say(&[
            "\"Come and practice with me,\" said {f}. \"Next year you can win too.\"",
            "{f} was not proud. \"Let us share the prize,\" {fhe} said.",
        ]);
        s.say(&[
            "{h} learned that practice is better than big words.",
            "After that, {h} practiced every day and never laughed at others again.",
        ]);
    } else {
        s.say(&[
            "{h} wanted to win very much. Every morning {he} {train}.",
            "\"I will do my best,\" said {h}. Day after day, {he} {train}.",
        ]);
        s.say(&[
            "{^ffull} wanted to win too. They both worked hard.",
            "{^ffull} was very good, and {h} knew it.",
        ]);
        s.say(&["On the big day, {h} was almost first. But then {he} saw that {f} had fallen and hurt {fhis} knee.", "When the {event} began, {h} was doing well. Then {he} heard a cry. {f} had slipped and could not get up."]);
        s.say(&[
            "{h} looked at the prize. Then {he} looked at {f}.",
            "For a moment {h} did not know what to do.",
        ]);
        s.say(&[
            "Then {he} turned around and helped {f} up. \"Lean on me,\" {he} said.",
            "\"A friend is more important than a prize,\" {he} thought, and {he} ran back to help.",
        ]);
        s.say(&[
            "Somebody else won the prize, but the people clapped the loudest for {h}.",
            "They came in last. But everybody stood up and clapped for the two friends.",
        ]);
        s.say(&["\"You could have won,\" said {f}. \"Why did you stop?\" \"Because you are my friend,\" said {h}.", "\"Thank you,\" said {f}. \"You gave up the prize for me.\" \"I would do it again,\" said {h}."]);
        s.maybe(&[
            "{g} baked a pie for both of them that evening.",
            "{f} made {him} a medal of {color} paper, and {h} wore it all week.",
        ]);
        s.say(&[
            "{h} did not get the prize, but {he} won something better: a true friend.",
            "And {h} knew that there is more than one way to win.",
        ]);
    }
}

/// Waiting is hard, and hurry spoils what needs time.
pub(super) fn impatience(s: &mut Scene) {
    s.open(&["impatient", "restless", "quick", "eager"]);
    s.day(&["sunny", "rainy", "cloudy"]);
    let (thing, start, spoil, lesson, result) = s.pick(&[
        (
            "seed",
            "{g} gave {h} a seed and put it into a pot of earth",
            "dug it up to see if it was growing, and its tiny root broke",
            "A seed needs sun, water and time",
            "a green leaf came out, and later {a color} flower",
        ),
        (
            "cake",
            "{g} and {h} put a cake into the oven",
            "opened the oven door again and again, and the cake fell flat",
            "A cake needs heat and a closed door",
            "the cake was high and golden, and it smelled of honey",
        ),
        (
            "egg",
            "{h} found a duck egg in the grass, and {g} put it in a warm box",
            "shook the egg to hear if somebody was inside, and it got a small crack",
            "A baby duck comes out when it is ready",
            "there was a soft tap, tap, tap, and a yellow baby duck looked out",
        ),
        (
            "painting",
            "{h} painted a picture of {place} for {g}",
            "touched it before it was dry, and the sun became a big brown spot",
            "Paint needs time to dry",
            "the new picture was dry and hung on the wall, as bright as the day",
        ),
        (
            "plum",
            "{h} saw the first plum on the tree and wanted to eat it",
            "picked it while it was green and hard, and it tasted so sour that {he} made a face",
            "A plum gets sweet in the sun",
            "the other plums were dark and soft, and the juice ran down {his} chin",
        ),
    ]);
    s.set("thing", thing);
    s.set("start", start);
    s.set("spoil", spoil);
    s.set("lesson", lesson);
    s.set("result", result);
    s.say(&["{day}, {start}.", "It began {day2}, when {start}."]);
    s.maybe_weather();
    s.say(&[
        "\"Is it ready now?\" asked {h}. \"Not yet,\" said {g}. \"You have to wait.\"",
        "\"How long will it take?\" asked {h}. \"Longer than you like,\" said {g} with a smile.",
        "\"Now we wait,\" said {g}. But {h} did not like to wait.",
    ]);
    s.say(&[
        "{h} walked up and down. {^he} looked at the clock. Every minute felt like an hour.",
        "{h} tried to wait. {^he} counted to ten, and then to a hundred.",
        "{^he} sat down, stood up and sat down again.",
    ]);
    s.say(&[
        "At last {he} could not stand it any more. {^he} {spoil}.",
        "When {g} was not looking, {h} {spoil}.",
        "\"Just one little look,\" {he} thought. But {he} {spoil}.",
    ]);
    s.say(&[
        "\"Oh no! What have I done?\" cried {h}.",
        "{h} felt awful. \"I only wanted it to be quick,\" {he} said.",
        "Tears came to {his} eyes. Now it was spoiled.",
    ]);
    s.say(&[
        "{g} was not angry. \"{lesson},\" said {g}. \"Shall we try again?\"",
        "{g} sat down next to {him}. \"{lesson}. You cannot hurry it,\" said {g}.",
    ]);
    s.say(&[
        "So they began again. This time {h} played with {ffull} while {he} waited, and the time went by fast.",
        "They started once more. Whenever {h} wanted to look, {he} sang a song instead.",
        "{h} nodded. This time {he} waited, and waited, and did not touch anything.",
    ]);
    s.say(&[
        "And then it happened: {result}.",
        "One day {h} came to look, and {result}.",
        "The waiting was over at last, and {result}.",
    ]);
    s.say(&[
        "\"It was worth the wait!\" shouted {h}.",
        "{h} clapped {his} hands with joy.",
        "\"See?\" said {g}. \"Good things take time.\"",
    ]);
    s.say(&[
        "From then on, when {h} had to wait, {he} thought of the {thing} and smiled.",
        "{h} had learned to wait. Those who wait get the best of things.",
        "That is how {h} learned that you cannot make {a thing} ready by wishing.",
    ]);
}

/// Bad weather is coming; those who prepare or hold together are safe.
pub(super) fn storm(s: &mut Scene) {
    s.open(&["careful", "brave", "thoughtful", "clever"]);
    s.day(&["windy", "cloudy"]);
    let (sign, harm, shelter, comfort) = s.pick(&[
        (
            "black clouds over the hill",
            "the wind took the roof off {f}'s house",
            "{h}'s house",
            "hot soup",
        ),
        (
            "birds that flew low over the ground",
            "the rain filled {f}'s house with water",
            "the old mill",
            "warm milk",
        ),
        ("a ring around the sun", "a tree fell on {f}'s house", "{h}'s kitchen", "tea with honey"),
        (
            "ants that ran back into their hole",
            "the water of the river came up to {f}'s door",
            "the barn on the hill",
            "fresh bread",
        ),
    ]);
    s.set("sign", sign);
    s.set("harm", harm);
    s.set("shelter", shelter);
    s.set("comfort", comfort);
    s.say(&[
        "{day}, {h} saw {sign}. \"A storm is coming,\" {he} said.",
        "{day}, {h} looked up and saw {sign}. {^he} knew what that meant: a storm.",
    ]);
    s.say(&[
        "{^he} brought in wood, closed the windows and filled the lamp with oil.",
        "{h} and {g} carried food and blankets inside and tied down the door.",
    ]);
    s.say(&[
        "{^ffull} was playing {at}. \"There will be no storm,\" laughed {f}. \"Come and play!\"",
        "\"You worry too much,\" said {ffull}, who was lying in the grass.",
    ]);
    s.say(&[
        "\"Please go home and close your windows,\" said {h}. But {f} did not listen.",
        "{h} asked {fhim} to get ready, but {f} only laughed.",
    ]);
    s.say(&["That night the storm came. The wind howled, and lightning lit up the sky.", "In the evening the sky grew dark. Then there was a flash and a boom, and the rain came down."]);
    s.say(&[
        "Outside, {harm}. {f} was wet and cold and very scared.",
        "Then {harm}. {f} had nowhere to go.",
    ]);
    s.say(&[
        "Somebody knocked. It was {f}. \"May I come in?\" {fhe} asked in a small voice.",
        "{h} saw a small light in the rain. It was {f}. \"Help me!\" {fhe} cried.",
    ]);
    s.say(&["{h} did not say, \"I told you so.\" {^he} took {fhim} to {shelter} and gave {fhim} {comfort}.", "\"Quick, come with me,\" said {h}. They ran to {shelter}, where there was {comfort} and a dry blanket."]);
    s.say(&[
        "They sat by the fire and listened to the storm, and {g} told them a story.",
        "They held hands and sang until the thunder went away.",
    ]);
    s.say(&[
        "In the morning, the sun came out, and they fixed {f}'s house together.",
        "The next day there was a rainbow. Everybody came to help {f} clean up.",
    ]);
    s.say(&[
        "\"Next time I will listen to you,\" said {f}, and {h} smiled. It is wise to get ready, and kind to open the door.",
        "\"Thank you, {h}. You were right,\" said {f}. A good friend is like a roof in the rain.",
        "{h} was glad to have a friend in the house. No storm lasts forever, but friendship does.",
    ]);
}

/// Somebody gets lost and finds the way by thinking.
pub(super) fn lost_way(s: &mut Scene) {
    s.open(&["curious", "lively", "brave", "clever"]);
    s.day(&["foggy", "sunny", "snowy"]);
    let (lure, plan, guide) = s.pick(&[
        ("{a color} butterfly", "Water always runs down to the valley", "followed a little stream down the hill until {he} saw the roofs"),
        ("the song of a strange bird", "If you are lost, stay calm and listen", "sat still and listened until {he} heard the bell of the tower, and then {he} walked toward it"),
        ("a trail of tiny footprints", "You can always go back the way you came", "found {his} own steps on the ground and walked back in them"),
        ("a rabbit with a white tail", "The evening star stands over our house", "waited for the first star and walked toward it"),
    ]);
    s.set("lure", lure);
    s.set("plan", plan);
    s.set("guide", guide);
    s.say(&[
        "{day}, {g} and {h} went for a walk. \"Stay close to me,\" said {g}.",
        "{day}, {h} went to pick berries with {g}. \"Do not go too far,\" said {g}.",
    ]);
    s.maybe_weather();
    s.say(&[
        "But then {h} saw {lure} and forgot everything else.",
        "But {h} noticed {lure}. {^he} had to know where it went.",
    ]);
    s.set("lure", "it");
    s.say(&[
        "{^he} followed it over a hill, around a pond and between tall trees.",
        "{^he} went after it, farther and farther, past stones and bushes.",
    ]);
    s.say(&[
        "Suddenly it was gone. {h} looked around. Nothing looked like home.",
        "When {he} stopped, everything was strange. \"Where am I?\" said {h}.",
    ]);
    s.say(&[
        "\"{g}!\" {he} called. But nobody answered.",
        "It was very quiet. {h} called for {g}, but only the wind answered.",
        "It began to get dark, and {h} was cold and afraid.",
    ]);
    s.say(&["{h} wanted to run, but {he} did not know where. Then {he} remembered what {g} had taught {him}: \"{plan}.\"", "A tear ran down {his} cheek. Then {he} thought of something {g} often said: \"{plan}.\""]);
    s.say(&["So {he} {guide}.", "{h} wiped {his} eyes. Then {he} {guide}."]);
    s.maybe(&[
        "{^his} feet hurt, but {he} did not stop.",
        "To be less afraid, {he} sang {his} favorite song.",
    ]);
    s.say(&[
        "There was {g} with a lantern! {h} ran and jumped into {g}'s arms.",
        "\"{h}!\" somebody called. It was {g}, who had looked for {him} everywhere.",
    ]);
    s.say(&["\"I am sorry that I went away,\" said {h}. \"I was so afraid for you,\" said {g}, \"but you were clever.\"", "\"I should have stayed close,\" said {h}. {g} held {him} tight. \"I am so glad that you are back,\" said {g}."]);
    s.say(&[
        "They went home hand in hand. {h} learned that a clear head is the best guide.",
        "After that, {h} was still curious, but {he} always told {g} where {he} went.",
        "That evening {h} drank hot milk and thought, \"It is fun to go far, but it is best to come home.\"",
    ]);
}

/// The work that everybody leaves to others.
pub(super) fn lazy(s: &mut Scene) {
    s.open(&["lazy", "sleepy", "dreamy", "playful"]);
    s.day(&["sunny", "rainy", "cloudy"]);
    let (work, step, party) = s.pick(&[
        ("bake bread", "carry the flour", "the bread was warm and smelled wonderful"),
        ("pick apples", "hold the ladder", "there was apple pie for everyone"),
        ("plant a garden", "carry the water", "there were carrots and peas for a big dinner"),
        ("clean the boat", "wash the sails", "the boat was ready for a trip around the island"),
        (
            "get ready for the feast",
            "hang up the lights",
            "the lights were shining, and there was music",
        ),
    ]);
    s.set("work", work);
    s.set("step", step);
    s.set("party", party);
    s.say(&[
        "{day}, {ffull} wanted to {work}. \"Who will help me {step}?\" asked {f}.",
        "{day}, {ffull} said, \"Today I will {work}. {h}, will you help me {step}?\"",
    ]);
    s.maybe_weather();
    s.say(&[
        "\"Not now,\" said {h}. \"I am too tired.\"",
        "\"Maybe later,\" said {h}, and {he} closed {his} eyes.",
        "\"I want to play with my {toy},\" said {h}.",
    ]);
    s.say(&[
        "So {f} did it all alone. {^fhe} worked until {fhis} arms hurt.",
        "{f} said nothing and worked alone from noon to night.",
    ]);
    s.say(&[
        "Meanwhile {h} lay in the shade {at} and ate {a food}.",
        "{h} heard {fhim} work, but {he} did not get up.",
    ]);
    s.say(&["In the end, {party}.", "At last all was done, and {party}."]);
    s.say(&[
        "Now {h} came running. \"I want to join you!\" {he} said.",
        "\"That looks nice! May I come?\" asked {h}.",
    ]);
    s.say(&[
        "{f} looked at {him}. \"Where were you when I needed help?\" {fhe} asked.",
        "\"You did not help me at all,\" said {f}, and {fhe} looked tired and sad.",
    ]);
    s.say(&[
        "{h}'s face turned red. {^he} had no answer.",
        "{h} was ashamed and looked at {his} feet.",
    ]);
    s.say(&[
        "\"You are right,\" {he} said at last. \"I am sorry. Let me wash all the dishes.\"",
        "\"I was wrong,\" said {h}. \"You rest now. I will do the rest of the work.\"",
    ]);
    s.say(&["{h} worked hard, and to {his} surprise it was fun. Then {f} called, \"Come, I saved a place for you!\"", "When {he} was done, {f} smiled. \"Now come and sit with me,\" {fhe} said."]);
    s.say(&[
        "Everything felt better because {he} had earned it.",
        "They laughed and talked until the stars came out.",
    ]);
    s.say(&[
        "{h} learned that those who help with the work enjoy the feast the most.",
        "From then on, when somebody asked for help, {h} was the first to say yes.",
        "That is how {h} found out that many hands make light work.",
    ]);
}
