//! Plots about what people owe each other: sharing, truth, promises, quarrels, friends, gifts.

use super::scene::Scene;

/// Two are hungry and one has food; what is shared comes back.
pub(super) fn sharing(s: &mut Scene) {
    s.open(&["cheerful", "hungry", "lively", "busy"]);
    s.day(&["sunny", "cloudy", "windy"]);
    s.say(&[
        "{day}, {g} gave {h} two {foods} for lunch. They were {taste}.",
        "{day}, {h} went out with two {foods} in a basket. They looked {taste}.",
        "{day}, {h} packed two {foods} and walked to {place}.",
    ]);
    s.maybe_weather();
    s.say(&[
        "{^at}, {h} saw {ffull}. {f} was sitting alone and looked sad.",
        "{h} sat down {at}. Then {ffull} came by with slow steps.",
        "There {he} met {ffull}, who was looking at the ground.",
    ]);
    s.say(&[
        "\"What is wrong?\" asked {h}. \"I forgot my lunch, and I am so hungry,\" said {f}.",
        "\"Why are you sad?\" asked {h}. \"My lunch fell into the mud,\" said {f}.",
        "\"Are you all right?\" asked {h}. \"I have had nothing to eat today,\" said {f}.",
    ]);
    s.say(&[
        "{h} looked at the {foods}. {^he} wanted to eat both of them.",
        "{h} held the basket tight. {^he} was hungry too.",
        "At first, {h} did not want to share. The {foods} were {his} favorite food.",
    ]);
    s.say(&[
        "But {f} looked so sad that {h} gave {fhim} one. \"Here, this {food} is for you,\" {he} said.",
        "Then {he} thought about how {f} felt, and gave {fhim} {a food}. \"Let us eat together,\" {he} said.",
        "Then {he} smiled and put one {food} into {f}'s hand. \"One for you and one for me,\" {he} said.",
    ]);
    s.say(&[
        "They ate side by side and laughed. The {food} tasted better than ever.",
        "{f} smiled with a full mouth. Soon both of them were laughing.",
        "\"Thank you,\" said {f}. \"This is the best {food} in the world!\"",
    ]);
    s.say(&[
        "The next day, {h} had nothing to eat, and {f} came with a big pie. \"Now it is my turn to share,\" said {f}.",
        "After lunch, {f} took {h} to a secret bush full of berries. \"You shared with me, so I will share with you,\" {fhe} said.",
        "A week later, {h} lost {his} lunch. {f} broke {fhis} own bread in two and gave {h} the bigger half.",
    ]);
    s.say(&[
        "{h} learned that when you share, there is enough for everyone.",
        "From then on, {h} and {f} always shared their food. What you give to a friend comes back to you.",
        "{h} was happy. Half of a meal with a friend is better than a whole meal alone.",
    ]);
}

/// Something breaks, a lie is told, and the truth makes the heart light again.
pub(super) fn lie(s: &mut Scene) {
    s.open(&["lively", "clever", "quick", "playful"]);
    s.day(&["rainy", "sunny", "windy"]);
    let (thing, how, blamed) = s.pick(&[
        ("vase", "{h} threw a ball in the house, and it hit {g}'s vase", "the cat"),
        ("teapot", "{h} danced too close to the table, and {g}'s teapot fell down", "the wind"),
        ("mirror", "{h} ran through the hall and bumped into {g}'s mirror", "the dog"),
        ("lamp", "{h} jumped on the bed and knocked over {g}'s lamp", "the cat"),
        (
            "plate",
            "{h} climbed on a chair to get a cookie, and {g}'s best plate slid off the shelf",
            "the dog",
        ),
        ("window", "{h} kicked a ball too hard, and it went right into {g}'s window", "the wind"),
    ]);
    s.set("thing", thing);
    s.set("how", how);
    s.set("blamed", blamed);
    s.say(&[
        "{day}, {how}.",
        "{day}, {h} was all alone. Then {how}.",
        "{day}, {h} forgot to be careful. {how}.",
    ]);
    s.say(&[
        "Crash! The {thing} broke into many pieces.",
        "There was a loud crash, and the {thing} was broken.",
        "Crash! Now the {thing} was broken, and {h} was scared.",
    ]);
    s.say(&[
        "{g} came in and asked, \"Who broke the {thing}?\"",
        "\"What happened to my {thing}?\" asked {g}.",
        "{g} heard the noise and came running. \"Oh no, my {thing}! Who did this?\"",
    ]);
    s.say(&[
        "{h} looked at the floor. \"It was {blamed},\" {he} said. But that was a lie.",
        "{h} was afraid to tell the truth. \"I think it was {blamed},\" {he} said.",
        "\"It was not me. It was {blamed},\" said {h} quickly.",
    ]);
    s.say(&[
        "{g} believed {him}, but {h} did not feel good. {^his} tummy hurt, and {he} could not play.",
        "{g} nodded and swept up the pieces. {h} felt worse and worse.",
        "All day the lie felt like a heavy stone. {h} could not eat {his} dinner.",
    ]);
    s.maybe(&[
        "At night, {he} could not sleep.",
        "{^he} tried to read a book, but {he} could only think of the {thing}.",
        "Even {his} {color} {toy} was no fun now.",
    ]);
    s.say(&[
        "At last {he} went to {g}. \"I am sorry. I told a lie,\" said {h}. \"I broke the {thing}.\"",
        "In the end, {h} took {g} by the hand. \"It was not {blamed},\" {he} said. \"It was me. I am so sorry.\"",
        "Then {h} began to cry. \"I broke your {thing}, and I lied to you,\" {he} said. \"Please do not be angry.\"",
    ]);
    s.say(&[
        "{g} gave {him} a hug. \"I am sad about the {thing},\" said {g}, \"but I am proud that you told me.\"",
        "{g} was quiet for a moment. \"Thank you for telling the truth. That was brave,\" said {g}.",
        "\"A {thing} can be fixed,\" said {g}, \"and so can a lie, when you tell the truth.\"",
    ]);
    s.say(&[
        "Together they glued the pieces, one by one.",
        "The next day, {h} helped to clean the whole house to make up for it.",
        "{h} gave {g} all the coins from {his} jar to pay for a new one.",
    ]);
    s.say(&[
        "That night {h} slept well. The truth may be hard to say, but a lie is harder to carry.",
        "{h} felt as light as a feather. From that day on, {he} always told the truth.",
        "And {h} never blamed {blamed} again. {^he} had learned that it is best to be honest.",
    ]);
}

/// A promise is hard to keep, and somebody depends on it.
pub(super) fn promise(s: &mut Scene) {
    s.open(&["kind", "lively", "friendly", "playful"]);
    s.day(&["sunny", "cloudy"]);
    let (job, need, result) = s.pick(&[
        (
            "water the flowers every evening",
            "the flowers were thirsty",
            "a hundred flowers were open, {color} and bright",
        ),
        (
            "feed the old cat every evening",
            "the old cat was hungry",
            "the old cat was fat and happy and purred like a drum",
        ),
        (
            "close the gate of the hen house every evening",
            "the hens were not safe with the gate open",
            "all the hens were safe, and there were six fresh eggs",
        ),
        (
            "give the little lamb its milk every evening",
            "the little lamb was waiting for its milk",
            "the little lamb had grown big and strong",
        ),
    ]);
    s.set("job", job);
    s.set("need", need);
    s.set("result", result);
    s.say(&[
        "{day}, {g} had to go away for a week. \"Will you {job}?\" asked {g}.",
        "{day}, {g} packed a bag for a long trip. \"Please {job} while I am away,\" said {g}.",
    ]);
    s.say(&[
        "\"Yes, I promise,\" said {h}.",
        "\"I promise!\" said {h}, and {he} meant it.",
        "{h} put a hand on {his} heart. \"I promise,\" {he} said.",
    ]);
    s.say(&[
        "For three days it was easy. On the fourth day, {ffull} came to the door.",
        "All went well until the fourth day. Then {ffull} knocked on the door.",
        "It was easy at first. But one evening {ffull} came running.",
    ]);
    s.say(&[
        "\"Come quick, there is music {at}!\" said {f}. \"Everybody is dancing!\"",
        "\"Come and play with me {at}!\" said {f}. \"We will have so much fun!\"",
        "\"There are lights {at}, and free cake for everyone!\" said {f}. \"Come with me now!\"",
    ]);
    s.say(&[
        "{h} wanted to go at once. But then {he} remembered that {need}.",
        "{h} already had {his} shoes on when {he} thought of {his} promise. {^he} knew that {need}.",
        "{h} jumped up with joy. Then {he} stopped, because {need}.",
    ]);
    s.say(&[
        "\"I made a promise,\" said {h}. \"First I must do my job.\"",
        "\"I cannot come yet,\" said {h}. \"I promised to {job}.\"",
        "\"Not yet,\" said {h}. \"A promise is a promise.\"",
    ]);
    s.say(&[
        "\"Then I will help you,\" said {f}. With four hands the work was soon done, and they still had time to go out.",
        "{f} was sad and went alone. {h} did {his} job and watched the moon come up. It was quiet, but {he} felt good.",
        "{f} thought for a while. \"You are right,\" {fhe} said. \"I will wait for you.\"",
    ]);
    s.say(&[
        "When {g} came home, {result}. \"You kept your promise,\" said {g} and hugged {h}.",
        "At the end of the week, {g} came back and saw that {result}. \"I can trust you,\" said {g}.",
    ]);
    s.say(&[
        "{h} was very proud. A promise is small to say and big to keep.",
        "{h} smiled from ear to ear. {^he} knew now that a friend is someone who keeps a promise.",
        "After that, everyone knew that {h} always did what {he} said.",
    ]);
}

/// Two want the same thing, it suffers for it, and they find a way.
pub(super) fn quarrel(s: &mut Scene) {
    s.open(&["stubborn", "lively", "proud", "playful"]);
    s.day(&["rainy", "sunny", "cloudy"]);
    s.say(&[
        "{day}, {h} and {ffull} found {a color} {toy} {at}.",
        "{day}, {h} was playing with {ffull}. In a box they found {a color} {toy}.",
    ]);
    s.maybe_weather();
    s.say(&[
        "\"It is mine!\" said {h}. \"No, I saw it first!\" said {f}.",
        "\"I want it,\" said {h}. \"I want it too,\" said {f}.",
        "\"Give it to me!\" said {f}. \"No, never!\" said {h}.",
    ]);
    s.say(&[
        "{h} pulled on one side, and {f} pulled on the other. Snap! The {toy} broke in two.",
        "They pulled and pulled. Then there was a crack, and the {toy} was broken.",
        "They both pulled as hard as they could. Suddenly the {toy} broke, and they fell on the ground.",
    ]);
    s.say(&[
        "\"Look what you did!\" they both cried.",
        "Now nobody could play with it.",
        "{h} was angry, and {f} was angry too.",
    ]);
    s.say(&[
        "{h} went home without a word. But alone {he} was bored, and the house was much too quiet.",
        "{f} ran away, and {h} sat down alone. It was no fun to be right and have no friend.",
        "They sat back to back and did not talk. The time went by very slowly.",
    ]);
    s.say(&[
        "After a while, {h} said, \"I am sorry that I pulled.\" \"I am sorry too,\" said {f}.",
        "At last {h} went to {f}. \"I am sorry,\" {he} said. \"You are more important than {a toy}.\" {f} began to smile.",
        "Then {f} held out {fhis} hand. \"Can we be friends again?\" {fhe} asked. \"Yes, please,\" said {h}. \"I am sorry.\"",
    ]);
    s.say(&[
        "They took some glue and string and fixed the {toy} together.",
        "{g} gave them some glue, and soon the {toy} was as good as new.",
        "{h} held the pieces while {f} put on the glue. It worked!",
    ]);
    s.say(&[
        "After that they took turns. First it was {f}'s turn, and then it was {h}'s turn.",
        "\"You can have it today,\" said {h}, \"and I will have it tomorrow.\"",
        "Then they made up a game that needed two players and only one {toy}.",
    ]);
    s.say(&[
        "{h} learned that a friend is worth more than any toy.",
        "That day {h} found out that taking turns is more fun than fighting.",
        "{h} and {f} never fought about it again. It takes two to fight, and two to make peace.",
    ]);
}

/// Somebody new is different, and the first step is the hardest.
pub(super) fn new_friend(s: &mut Scene) {
    s.open(&["friendly", "curious", "shy", "quiet"]);
    s.day(&["sunny", "cloudy", "snowy"]);
    let (mark, laugh, gift) = s.pick(&[
        (
            "did not speak at all",
            "\"How odd!\" said the others.",
            "{fhe} could draw anything, and {fhe} told the best stories with a pencil",
        ),
        (
            "came from a land far away and used strange words",
            "The others laughed at the strange words.",
            "{fhe} knew songs that nobody had ever heard",
        ),
        (
            "was very small and wore big glasses",
            "\"You are too small to play,\" said the others.",
            "{fhe} could find the smallest things, even a lost pin in the grass",
        ),
        (
            "walked with a stick because of a bad leg",
            "\"You are too slow for our game,\" said the others.",
            "{fhe} could make the best kites in the world",
        ),
    ]);
    s.set("mark", mark);
    s.set("laugh", laugh);
    s.set("gift", gift);
    s.say(&[
        "{day}, a new {fkind} came to live near {place}. The new {fkind} was named {f}.",
        "{day}, {h} saw a new {fkind} {at}. \"That is {f},\" said {g}.",
    ]);
    s.maybe_weather();
    s.say(&["{f} {mark}. {laugh}", "{f} was not like the others. {^fhe} {mark}. {laugh}"]);
    s.say(&[
        "{f} sat down alone, and a tear ran down {fhis} face.",
        "So {f} stood by the wall and watched the others play.",
        "Every day {f} was alone, and {fhe} looked at the ground.",
    ]);
    s.say(&[
        "{h} remembered how it felt to be lonely. {^his} heart beat fast, but {he} walked over to {f}.",
        "{h} did not know what to say. But {he} took a deep breath and went over to {f}.",
        "{h} felt sorry for {f}. \"I would not like to be alone,\" {he} thought, and {he} went over.",
    ]);
    s.say(&[
        "\"Hello, I am {h}. Do you want to play with me?\" {he} asked. {f} looked up and smiled.",
        "\"Would you like {a food}?\" asked {h}. {f} took it with a shy smile.",
        "\"You can play with my {color} {toy},\" said {h}. {f}'s eyes grew big and bright.",
    ]);
    s.say(&[
        "Soon {h} found out something wonderful: {gift}.",
        "They played all {time}. And then {h} saw that {gift}.",
    ]);
    s.say(&[
        "When the others saw that, they came closer. \"Can we play too?\" they asked.",
        "The others stopped laughing. \"We are sorry,\" they said. \"May we join you?\"",
    ]);
    s.say(&[
        "{f} nodded, and they all played until dark.",
        "\"Of course,\" said {h} and {f} at the same time.",
        "{f} was not sad any more, and nobody was left out.",
    ]);
    s.say(&[
        "{h} was glad that {he} had said hello. One kind word can make a friend for life.",
        "{h} and {f} became best friends. It is good that we are not all the same.",
        "From that day on, {h} always said hello to anyone who was alone.",
    ]);
}

/// A present that costs no money but much care.
pub(super) fn gift(s: &mut Scene) {
    s.open(&["poor", "thoughtful", "gentle", "kind"]);
    s.day(&["snowy", "sunny", "rainy"]);
    let (made, of, trouble, fix) = s.pick(&[
        (
            "a card",
            "paper and paint",
            "the paint ran all over the paper",
            "turned the spots into {color} flowers",
        ),
        (
            "a necklace",
            "shells and string",
            "the string broke and the shells rolled away",
            "picked up each shell and tied a stronger knot",
        ),
        (
            "a scarf",
            "{color} wool",
            "there was a hole in the middle",
            "closed the hole with a big {color} heart",
        ),
        (
            "a cake",
            "flour, eggs and honey",
            "the cake came out flat",
            "put a mountain of berries on top",
        ),
        (
            "a little boat",
            "wood and nails",
            "one side was longer than the other",
            "made the short side longer with {a color} flag",
        ),
    ]);
    s.set("made", made);
    s.set("of", of);
    s.set("trouble", trouble);
    s.set("fix", fix);
    s.say(&[
        "{day}, {h} remembered that it would soon be {g}'s birthday.",
        "{day}, {g} was tired and sad. {h} wanted to give {ghim} a present.",
    ]);
    s.maybe_weather();
    s.say(&[
        "{^he} looked into {his} jar, but there was only one coin in it. \"I cannot buy anything,\" {he} said.",
        "In the shop there were many fine things, but {h} had no money.",
        "{h} had no coins at all. \"What can I give?\" {he} asked {himself}.",
    ]);
    s.say(&[
        "Then {he} had an idea. \"I will make {made}!\"",
        "\"I know!\" said {h}. \"I can make {made}.\"",
        "{^ffull} said, \"You have two good hands. Make something!\" So {h} began to make {made}.",
    ]);
    s.say(&[
        "{^he} found {of} and worked until it was dark.",
        "{^he} took {of} and worked all {time}.",
    ]);
    s.say(&[
        "But {trouble}. {h} almost began to cry.",
        "Then something went wrong: {trouble}. \"Oh no!\" said {h}.",
        "It was not easy, and {trouble}.",
    ]);
    s.say(&[
        "But {he} did not give up. {^he} {fix}.",
        "{^he} took a deep breath and tried again. {^he} {fix}.",
        "But {he} remembered who it was for, and {he} tried again. {^he} {fix}.",
    ]);
    s.say(&[
        "When the day came, {h} held out {his} present with shaking hands. \"It is not perfect,\" {he} said.",
        "\"This is for you,\" {h} said at last. \"I made it all by myself.\"",
    ]);
    s.say(&[
        "{g}'s eyes were wet. \"It is the best present I have ever had,\" said {g}, \"because you made it for me.\"",
        "{g} looked at it for a long time and then gave {h} the biggest hug. \"I will keep this day in my heart,\" said {g}.",
    ]);
    s.say(&[
        "Then {h} understood that love makes a gift big, not money.",
        "{h} was happier than ever. The best gifts come from the heart.",
        "{h} smiled all day. To give can feel even better than to get.",
    ]);
}

/// Something precious is found, and it belongs to somebody.
pub(super) fn treasure(s: &mut Scene) {
    s.open(&["curious", "lucky", "honest", "clever"]);
    s.day(&["sunny", "foggy", "windy"]);
    let (thing, owner, want, thanks) = s.pick(&[
        (
            "a bag of coins",
            "the old baker, who had saved for a new oven",
            "buy all the toys in the shop",
            "gave them a hot honey cake every Sunday",
        ),
        (
            "a silver ring",
            "a fisherman, who had it from his wife",
            "show it to everyone",
            "took them out on the sea in his boat",
        ),
        (
            "a golden watch",
            "the teacher, who had it from her father",
            "hear it tick under the pillow",
            "told them the best story of pirates",
        ),
        (
            "a music box",
            "an old woman, who danced to it when she was young",
            "keep it in a secret place",
            "taught them to dance to it",
        ),
        (
            "a little purse",
            "a poor farmer, who needed the money for seeds",
            "buy a hundred cookies",
            "gave them the first carrots of the year",
        ),
    ]);
    s.set("thing", thing);
    s.set("owner", owner);
    s.set("want", want);
    s.set("thanks", thanks);
    s.say(&[
        "{day}, {h} and {ffull} were digging {at}.",
        "{day}, {h} was playing {at} with {ffull}.",
    ]);
    s.maybe_weather();
    s.say(&[
        "Something was shining between the stones. It was {thing}!",
        "\"Look!\" said {f}. Under a bush lay {thing}.",
    ]);
    s.say(&[
        "\"We are rich!\" said {f}. \"Finders keepers!\"",
        "\"Nobody saw us,\" said {f}. \"Now it is ours.\"",
    ]);
    s.say(&[
        "{h} thought of all that {he} could do. {^he} would {want}.",
        "{h}'s eyes were bright. \"I could {want},\" {he} said.",
    ]);
    s.say(&[
        "But then {he} stopped. \"Somebody is looking for it,\" {he} said.",
        "But a small voice in {his} heart said, \"It is not yours.\"",
        "Then {he} remembered how sad {he} was when {he} once lost {his} {color} {toy}.",
    ]);
    s.say(&[
        "\"We have to find the owner,\" said {h}. {f} was not happy, but {fhe} came along.",
        "\"If it were mine, I would want it back,\" said {h}. {f} thought about it and nodded.",
    ]);
    s.say(&["They went from door to door and asked everyone. \"Is this yours?\" they asked. \"No,\" said one after another.", "They asked at the shop, at the school and at the harbor. Nobody knew."]);
    s.say(&["At the last house lived {owner}.", "In the evening they came to {owner}."]);
    s.say(&[
        "\"You found it! I thought it was gone forever,\" said a happy voice.",
        "There were tears of joy. \"I have looked for it for days!\"",
    ]);
    s.say(&["To thank them, the owner {thanks}.", "The owner hugged them both and {thanks}."]);
    s.say(&[
        "\"You were right,\" said {f}. \"This is better than a treasure.\"",
        "\"I am glad that we did not keep it,\" said {f}.",
    ]);
    s.say(&[
        "{h} smiled. A clear heart is worth more than gold.",
        "And {h} knew that what is right is not always easy, but it always feels good.",
        "That night {h} slept like a stone, because honest people sleep well.",
    ]);
}
